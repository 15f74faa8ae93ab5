package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
)

// floorLabel marks what bare writes leave behind. It is not the manager's, which would take them for its own.
var floorLabel = map[string]string{"bench": "floor"}

// bareObjects creates the objects from that number on, and their Secrets and entries as cheaply as can be, and returns what that
// took. It leaves nothing behind.
func (w *objectsWorld) bareObjects(ctx context.Context, from int) (cost, error) {
	all, err := w.targets(ctx)
	if err != nil {
		return cost{}, err
	}
	place := map[string]int{}
	for i, t := range all {
		place[t.namespace] = i
	}
	secrets := map[string][]string{}
	for i := from; i < w.n; i++ {
		for _, namespace := range w.own(i) {
			secrets[namespace] = append(secrets[namespace], fmt.Sprintf("floor-%05d", i))
		}
	}
	var targets []target
	for namespace := range secrets {
		targets = append(targets, all[place[namespace]])
	}
	took, err := costOf(func() error {
		if err := w.createObjects(ctx, from, w.n); err != nil {
			return err
		}
		return in(targets, func(t target) error { return w.bareAll(ctx, t, secrets[t.namespace]) })
	})
	if err != nil {
		return cost{}, err
	}
	if err := w.ips.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return cost{}, err
	}
	return took, in(targets, func(t target) error { return w.bareUndo(ctx, t) })
}

// bareAll creates Secrets in a namespace, and their entries in its ServiceAccounts with one patch for each account.
func (w *objectsWorld) bareAll(ctx context.Context, t target, names []string) error {
	for i, name := range names {
		secret := w.floorSecret(name, i)
		secret.Labels = floorLabel
		body, err := protobuf(secret)
		if err != nil {
			return err
		}
		if err := w.barePost(ctx, t.namespace, body); err != nil {
			return err
		}
	}
	for _, account := range t.accounts {
		patch := []map[string]any{}
		if len(account.ImagePullSecrets) == 0 {
			patch = append(patch, map[string]any{"op": "add", "path": "/imagePullSecrets", "value": []any{}})
		}
		for _, name := range names {
			patch = append(patch, map[string]any{"op": "add", "path": "/imagePullSecrets/-", "value": corev1.LocalObjectReference{Name: name}})
		}
		if err := w.patchAccount(ctx, account, patch); err != nil {
			return err
		}
	}
	return nil
}

// bareUndo takes back what bareAll did.
func (w *objectsWorld) bareUndo(ctx context.Context, t target) error {
	err := w.client.CoreV1().Secrets(t.namespace).DeleteCollection(ctx, metav1.DeleteOptions{},
		metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: floorLabel})})
	for _, account := range t.accounts {
		if err == nil {
			list := append([]corev1.LocalObjectReference{}, account.ImagePullSecrets...)
			err = w.patchAccount(ctx, account, []map[string]any{{"op": "add", "path": "/imagePullSecrets", "value": list}})
		}
	}
	return err
}

func (w *world) patchAccount(ctx context.Context, account corev1.ServiceAccount, patch []map[string]any) error {
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return w.peer.Patch(types.JSONPatchType).Namespace(account.Namespace).Resource("serviceaccounts").
		Name(account.Name).Body(body).Do(ctx).Error()
}

// inLine returns nil where an object says that everything has its current credential, and that this is at least so many Secrets.
func inLine(object *v1.ImagePullSecret, secrets int) error {
	status := object.Status
	if status.ObservedGeneration != object.Generation || int(status.SecretsSuccess) < secrets ||
		status.SecretsSuccess != status.SecretsDesired || status.SAsSuccess != status.SAsDesired {
		return fmt.Errorf("%d of %d secrets and %d of %d service accounts are in line",
			status.SecretsSuccess, status.SecretsDesired, status.SAsSuccess, status.SAsDesired)
	}
	return nil
}

// busyTime returns the time that the threads of a process have run, finer than cpuTime.
func busyTime(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			return 0, fmt.Errorf("reading a thread's time: %w", err)
		}
		var nanoseconds time.Duration
		if _, err := fmt.Fscan(strings.NewReader(string(text)), &nanoseconds); err != nil {
			return 0, fmt.Errorf("reading a thread's time: %w", err)
		}
		total += nanoseconds
	}
	return total, nil
}
