package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// The keys of the ConfigMap: what hosts-updater reads, and the records that it is computed from.
const (
	hostsKey = "hosts.yaml"
	foundKey = "found.json"
)

// errJustWritten says that the ConfigMap was written a moment ago.
var errJustWritten = errors.New("it was written a moment ago, and another client has changed it since")

// load reads what was published before, once.
func (k *Keeper) load(ctx context.Context) error {
	if k.loaded {
		return nil
	}
	if err := k.discovered.Read(ctx); err != nil {
		return err
	}
	k.loaded = true
	before := k.discovered.Get()
	if !before.Exists {
		return nil
	}
	records, err := privatenetwork.Decode(before.Object.Data[foundKey])
	if err != nil {
		k.Log.Warn("published private addresses were not read: the cloud is asked", "error", err)
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, record := range records {
		if k.objects[name] == nil || !k.objects[name].record.Told() {
			k.objects[name] = &object{record: record}
		}
		if record.Told() {
			k.told[name] = toldBy(tell(privatenetwork.Resolve(record.Question(nil)), true, nil))
		}
	}
	return nil
}

// answers returns the hosts and the merged answers that follow from all that is known, and the records that they are computed from.
func (k *Keeper) answers() (
	hosts []privatenetwork.Host, merged map[string]privatenetwork.Answer, records map[string]privatenetwork.Record,
) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := map[string]privatenetwork.Answer{}
	records = map[string]privatenetwork.Record{}
	for name, one := range k.objects {
		if one.record.Told() {
			records[name], found[name] = one.record, privatenetwork.Resolve(one.record.Question(k.seen.addresses))
		}
	}
	hosts, merged = privatenetwork.Merge(found)
	return hosts, merged, records
}

// publish brings the ConfigMap in line.
func (k *Keeper) publish(ctx context.Context) error {
	hosts, _, records := k.answers()
	now := k.seen.discovered
	k.mu.Lock()
	none := len(k.objects) == 0
	k.mu.Unlock()
	data := map[string]string{hostsKey: privatenetwork.Render(hosts), foundKey: privatenetwork.Encode(records)}
	switch {
	case none && now.Exists && v1.Managed(now.Object.Labels):
		return k.remove(ctx, now.Object)
	case none, !now.Exists && len(records) == 0, now.Exists && same(now.Object, data):
		return nil
	case time.Since(k.written) < writePause:
		return errJustWritten
	}
	k.written = time.Now()
	if now.Exists && now.Object.Immutable != nil && *now.Object.Immutable { // set by another client: there is no other way to change it
		if err := k.remove(ctx, now.Object); err != nil {
			return err
		}
	}
	if err := k.apply(ctx, data); err != nil {
		return fmt.Errorf("writing config map %s/%s: %w", k.Namespace, Discovered, err)
	}
	k.Log.Info("private addresses were published", "namespace", k.Namespace, "configMap", Discovered, "hosts", len(hosts))
	return nil
}

// same reports whether a ConfigMap is as it should be. Keys that others add do not matter: nothing reads them, and an apply leaves them.
func same(object *corev1.ConfigMap, data map[string]string) bool {
	for key, text := range data {
		if held, has := object.Data[key]; !has || held != text {
			return false
		}
	}
	return v1.Managed(object.Labels)
}

// remove deletes the ConfigMap if it still has the version that was seen.
func (k *Keeper) remove(ctx context.Context, object *corev1.ConfigMap) error {
	err := k.ConfigMaps.Delete(ctx, object.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &object.UID, ResourceVersion: &object.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting config map %s/%s: %w", k.Namespace, Discovered, err)
	}
	k.Log.Info("private addresses were withdrawn", "namespace", k.Namespace, "configMap", Discovered)
	return k.discovered.Read(ctx)
}

// apply writes the ConfigMap. It applies it instead of posting it: RBAC can restrict an apply to a name. The manager's role owns it, so
// that an uninstall deletes it.
func (k *Keeper) apply(ctx context.Context, data map[string]string) error {
	owner, err := k.Owner(ctx)
	if err != nil {
		return err
	}
	metadata := map[string]any{"name": Discovered, "labels": v1.ManagedLabels()}
	if owner != nil {
		metadata["ownerReferences"] = []metav1.OwnerReference{*owner}
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
	if err != nil {
		return err
	}
	_, err = k.discovered.Write(func() (*corev1.ConfigMap, error) {
		return k.ConfigMaps.Patch(ctx, Discovered, types.ApplyPatchType, body,
			metav1.PatchOptions{FieldManager: v1.FieldManager, Force: new(true)})
	})
	return err
}

// report passes the results on to the statuses, and records changes as events.
func (k *Keeper) report(rules *pullsecret.Rules, failed error) {
	_, merged, records := k.answers()
	installed := !k.seen.fixed.Known || k.seen.fixed.Exists // hosts-updater is installed with that ConfigMap
	k.mu.Lock()
	reach := map[string]*pullsecret.Reach{}
	for name, one := range k.objects {
		refused := one.refused
		if failed != nil {
			refused = &refusal{reasonNotPublished, failed.Error()}
		}
		if _, told := records[name]; told || refused != nil {
			reach[name] = tell(merged[name], told, refused)
			unfollowed(reach[name], installed, k.Namespace)
		}
	}
	if !equality.Semantic.DeepEqual(reach, k.reach) {
		k.reach = reach
		close(k.changed)
		k.changed = make(chan struct{})
	}
	k.mu.Unlock()
	for name := range k.told {
		if reach[name] == nil {
			delete(k.told, name)
		}
	}
	for name, one := range reach {
		if rule := rules.Get(name); rule != nil {
			k.tell(rule, one)
		}
	}
}
