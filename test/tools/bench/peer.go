package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/pullsecret"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

// peerProgram is what is measured of this manager and of what somebody would use instead.
type peerProgram struct {
	sizes  []int // numbers of namespaces
	births int
	idle   time.Duration
}

// distributor is a program that puts one Secret into every namespace, and an entry into every ServiceAccount.
type distributor struct {
	name   string // in the table
	user   string // to the API server
	secret string // what its Secrets are called
	start  func(context.Context) (running, error)
	undo   func(context.Context) error // takes back what start made, once nothing is left in namespaces
}

// running is a distributor's process.
type running struct {
	pid  int
	stop func() error
}

// turn is what it took a distributor to bring all in line.
type turn struct {
	clock, processor time.Duration // until the last write was answered; of its process
	rest, most       float64       // MiB
	calls, refused   int
}

// peers measures this manager and the stand-in for another distributor, as its documentation has it by default and with as many writes
// under way as this manager, by turns, on one control plane of n namespaces, each next to
// bare writes. What one leaves behind is deleted before the next begins.
func peers(ctx context.Context, r *report, binary, dir string, program peerProgram, n, rounds int) (err error) {
	standIn, err := buildModule(ctx, dir, "standin")
	if err != nil {
		return err
	}
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	r.Kubernetes = w.Version()
	if err := errors.Join(w.unrestrict(ctx), w.namespaces(ctx, numbered("bench", 0, n))); err != nil {
		return err
	}
	usual, err := w.standIn(ctx, standIn)
	if err != nil {
		return err
	}
	quick := fmt.Sprintf("%s, %d at a time", standInName, workers)
	all := []distributor{w.product(), usual(standInName, 1), usual(quick, workers/standInKinds)}
	for range rounds {
		if err := w.round(ctx, r, all, n, program.idle); err != nil {
			return err
		}
		slices.Reverse(all)
	}
	for i, d := range all {
		if err := w.bearWith(ctx, r, d, fmt.Sprintf("born-%d", i), n, program.births); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return nil
}

// round has each distributor bring all in line, between two times that bare writes do so.
func (w *world) round(ctx context.Context, r *report, all []distributor, n int, idle time.Duration) error {
	before, err := w.bareTurn(ctx)
	if err != nil {
		return err
	}
	turns := map[string]turn{}
	for _, d := range all {
		if turns[d.name], err = w.turn(ctx, d, idle); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
	}
	after, err := w.bareTurn(ctx)
	if err != nil {
		return err
	}
	product := turns[productName].processor.Seconds()
	for _, d := range all {
		t := turns[d.name]
		t.figures(r, d.name, n, mean(before, after))
		if d.name != productName {
			r.add("peer", d.name+": processor time of the process over this manager's", n, ratio, t.processor.Seconds()/product)
		}
	}
	return nil
}

func (t turn) figures(r *report, name string, n int, floor cost) {
	add := func(figure string, unit unit, value float64) { r.add("peer", name+": "+figure, n, unit, value) }
	add("time over bare writes", ratio, t.clock.Seconds()/floor.clock.Seconds())
	add("processor time of the process", seconds, t.processor.Seconds())
	add("memory at rest", mebibytes, t.rest)
	add("memory at most", mebibytes, t.most)
	add("calls per namespace", count, float64(t.calls)/float64(n))
	add("refused calls", count, float64(t.refused))
}

// bareTurn makes the same writes as cheaply as can be, and takes them back.
func (w *world) bareTurn(ctx context.Context) (cost, error) {
	took, err := w.bareIssue(ctx, "floor")
	return took, errors.Join(err, w.clear(ctx))
}

// turn lets a distributor bring all in line, ends it and takes back what it did.
func (w *world) turn(ctx context.Context, d distributor, idle time.Duration) (t turn, err error) {
	began := time.Now()
	process, err := d.start(ctx)
	if err != nil {
		return turn{}, err
	}
	if err := w.distributed(ctx, d.secret); err != nil {
		return turn{}, errors.Join(err, process.stop())
	}
	requests, err := w.requestsOf(d.user, began)
	if err != nil {
		return turn{}, err
	}
	writes := spanOf(requests, issues)
	t.clock, t.refused = writes.last.Sub(began), writes.refused
	if t.processor, err = cpuTime(process.pid); err != nil {
		return turn{}, err
	}
	t.calls = len(slices.DeleteFunc(requests, upkeep))
	time.Sleep(idle)
	if t.rest, t.most, err = resident(process.pid); err != nil {
		return turn{}, err
	}
	return t, errors.Join(process.stop(), w.clear(ctx), d.undo(ctx))
}

// bearWith creates namespaces while a distributor runs, and looks how soon and how complete they are seen.
func (w *world) bearWith(ctx context.Context, r *report, d distributor, prefix string, n, births int) error {
	process, err := d.start(ctx)
	if err != nil {
		return err
	}
	if err := w.distributed(ctx, d.secret); err != nil {
		return errors.Join(err, process.stop())
	}
	began := time.Now()
	born, err := w.births(ctx, prefix, births, quietRate, d.secret)
	if err != nil {
		return errors.Join(err, process.stop())
	}
	if err := w.distributed(ctx, d.secret); err != nil {
		return errors.Join(err, process.stop())
	}
	requests, err := w.requestsOf(d.user, began)
	if err != nil {
		return err
	}
	calls := float64(len(slices.DeleteFunc(requests, upkeep))) / float64(births)
	r.add("peer", d.name+": calls per new namespace", n, count, calls)
	r.add("peer", d.name+": p50 until a new namespace's Secret is seen", n, milliseconds, born.secret(50))
	newborn := r.add("peer", d.name+": new accounts seen without the entry", n, count, float64(born.without))
	if d.name == productName {
		newborn.atMost(0)
	}
	return errors.Join(process.stop(), w.clear(ctx), d.undo(ctx))
}

// distributed waits until every namespace has this Secret, and every ServiceAccount lists it.
func (w *world) distributed(ctx context.Context, secret string) error {
	fromCache := metav1.ListOptions{ResourceVersion: "0"}
	return every(ctx, time.Second, func() error {
		accounts, err := w.client.CoreV1().ServiceAccounts("").List(ctx, fromCache)
		if err != nil {
			return err
		}
		namespaces := map[string]bool{}
		for _, account := range accounts.Items {
			namespaces[account.Namespace] = true
			if !slices.Contains(account.ImagePullSecrets, corev1.LocalObjectReference{Name: secret}) {
				return fmt.Errorf("service account %s/%s does not list %s", account.Namespace, account.Name, secret)
			}
		}
		named := metav1.ListOptions{ResourceVersion: "0", FieldSelector: "metadata.name=" + secret}
		secrets, err := w.client.CoreV1().Secrets("").List(ctx, named)
		if err == nil && len(secrets.Items) < len(namespaces) {
			err = fmt.Errorf("%d of %d namespaces have secret %s", len(secrets.Items), len(namespaces), secret)
		}
		return err
	})
}

// clear deletes every pull secret and every entry.
func (w *world) clear(ctx context.Context) error {
	targets, err := w.targets(ctx)
	if err != nil {
		return err
	}
	pullSecrets := metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeDockerConfigJson)}
	return in(targets, func(t target) error {
		if err := w.client.CoreV1().Secrets(t.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, pullSecrets); err != nil {
			return err
		}
		for _, account := range t.accounts {
			if len(account.ImagePullSecrets) == 0 {
				continue
			}
			if err := w.patchAccount(ctx, account, []map[string]any{{"op": "remove", "path": "/imagePullSecrets"}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// productName is this manager in the table.
const productName = "this manager"

func (w *world) product() distributor {
	return distributor{
		name: productName, user: manager.User, secret: pullsecret.SecretName("bench"),
		start: func(ctx context.Context) (running, error) {
			if err := w.create(ctx); err != nil {
				return running{}, err
			}
			m, err := w.start(ctx)
			if err != nil {
				return running{}, err
			}
			return running{pid: m.Pid(), stop: func() error { return w.stop(ctx, m) }}, nil
		},
		undo: func(ctx context.Context) error { return w.ips.Delete(ctx, "bench", metav1.DeleteOptions{}) },
	}
}

const (
	// standInName is in the table what stands in for a distributor that cannot be had as a Go module.
	standInName = "stand-in"
	standInUser = "system:serviceaccount:" + standInName + ":default"
	// standInKinds is of how many kinds of objects it brings some in line at a time: namespaces and ServiceAccounts.
	standInKinds = 2
)

// standIn lets the program at this path be started, with the permissions that such programs ask for: for all Secrets. It returns what
// makes a distributor of it that brings so many objects of a kind in line at a time.
func (w *world) standIn(ctx context.Context, binary string) (func(name string, atATime int) distributor, error) {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: standInName},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"namespaces", "secrets", "serviceaccounts"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{""}, Resources: []string{"secrets", "serviceaccounts"}, Verbs: []string{"create", "update", "patch"}},
		},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: standInName},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: standInName},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: standInUser}},
	}
	if _, err := w.client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if _, err := w.client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	kubeconfig, err := w.KubeconfigFor(standInUser, "system:serviceaccounts", "system:authenticated")
	if err != nil {
		return nil, err
	}
	content := filepath.Join(w.Dir(), standInName+".dockerconfigjson")
	if err := os.WriteFile(content, pullsecret.Render(credential(0)), 0o600); err != nil {
		return nil, err
	}
	start := func(ctx context.Context, atATime int) (running, error) {
		command := exec.CommandContext(ctx, binary, "-kubeconfig="+kubeconfig, "-dockerconfigjson-path="+content, "-secret-name="+standInName,
			fmt.Sprintf("-max-concurrent-reconciles=%d", atATime))
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			return running{}, fmt.Errorf("starting the stand-in: %w", err)
		}
		return running{pid: command.Process.Pid, stop: func() error {
			return errors.Join(command.Process.Signal(syscall.SIGTERM), command.Wait())
		}}, nil
	}
	return func(name string, atATime int) distributor {
		return distributor{
			name: name, user: standInUser, secret: standInName,
			start: func(ctx context.Context) (running, error) { return start(ctx, atATime) },
			undo:  func(context.Context) error { return nil },
		}
	}, nil
}
