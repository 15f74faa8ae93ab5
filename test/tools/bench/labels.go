package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tcr-assistant/tcr-assistant/api/v1"
	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

const (
	// labelsEach is how many labels a namespace has.
	labelsEach = 20
	// labelledGoal is in MiB, at rest and while starting, in 10,000 namespaces.
	labelledGoal = 80
)

// labels measures what a manager holds at rest and at its most while it starts, leading and not, where namespaces have many labels and
// an ImagePullSecret selects all of them by two.
func labels(ctx context.Context, r *report, binary string, n int, idle time.Duration) (err error) {
	w, err := newWorld(ctx, binary)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	names := numbered("bench", 0, n)
	if err := w.namespaces(ctx, names, "builder"); err != nil {
		return err
	}
	if err := w.labelAll(ctx, names); err != nil {
		return err
	}
	if err := w.selectByLabels(ctx); err != nil {
		return err
	}
	first, err := w.start(ctx) // it brings all in line
	if err != nil {
		return err
	}
	if err := w.complete(ctx, n); err != nil {
		return err
	}
	if err := w.stop(ctx, first); err != nil {
		return err
	}
	leader, err := w.start(ctx)
	if err != nil {
		return err
	}
	if err := leader.Ready(ctx); err != nil {
		return err
	}
	// API servers may call either where the leader is: a replica for which that is not so is never ready.
	follower, err := manager.Start(ctx, w.Cluster, manager.Options{
		Binary: binary, WebhookURL: "https://" + leader.WebhookAddress, Args: []string{"--log-level=info"},
	})
	if err != nil {
		return err
	}
	if err := follower.Ready(ctx); err != nil {
		return err
	}
	time.Sleep(idle)
	for _, role := range []struct {
		name string
		of   *manager.Manager
	}{{"leading", leader}, {"not leading", follower}} {
		steady, most, err := resident(role.of.Pid())
		if err != nil {
			return err
		}
		r.add("labels", "at rest, "+role.name, n, mebibytes, steady).atMost(labelledGoal)
		r.add("labels", "most while starting, "+role.name, n, mebibytes, most).atMost(labelledGoal)
		r.add("labels", "most while starting over at rest, "+role.name, n, ratio, most/steady)
	}
	return errors.Join(w.stop(ctx, follower), w.stop(ctx, leader))
}

// selectByLabels creates an ImagePullSecret that selects all namespaces which labelAll has labelled.
func (w *world) selectByLabels(ctx context.Context) error {
	_, err := w.ips.Create(ctx, &v1.ImagePullSecret{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Spec: v1.ImagePullSecretSpec{
			NamespaceSelector: &v1.LabelSelector{
				MatchLabels:      map[string]v1.LabelValue{"example.com/label-00": "the-same-everywhere"},
				MatchExpressions: []v1.LabelRequirement{{Key: "example.com/label-01", Operator: v1.OperatorExists}},
			},
			ServiceAccounts: "*", Docker: credential(0), Check: unchecked,
		},
	}, metav1.CreateOptions{})
	return err
}

// labelAll gives each namespace its labels, half of them with a value of its own.
func (w *world) labelAll(ctx context.Context, names []string) error {
	return in(names, func(name string) error {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelMetadataName: name}}}
		for i := range labelsEach {
			value := "the-same-everywhere"
			if i%2 == 1 {
				value = fmt.Sprintf("%s-%02d", name, i)
			}
			object.Labels[fmt.Sprintf("example.com/label-%02d", i)] = value
		}
		_, err := w.client.CoreV1().Namespaces().Update(ctx, object, metav1.UpdateOptions{})
		return err
	})
}
