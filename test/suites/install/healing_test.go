package install

import (
	"context"
	"testing"

	"k8s.io/client-go/kubernetes"
)

// healingTries are what each line of the table by rbac.healing is tried by.
func healingTries(ctx context.Context) map[string][]try {
	return map[string][]try{
		"watch all pods, and so read what their specs hold": {
			asks(ctx, "watch", "", "pods", "", ""), asks(ctx, "list", "", "pods", "", ""), asks(ctx, "list", "", "pods", "team", ""),
			asks(ctx, "get", "", "pods", "team", "any"),
		},
		"evict any pod that its PodDisruptionBudget lets go": {asks(ctx, "create", "", "pods/eviction", "team", "any")},
		"read all events, and any Job": {
			asks(ctx, "list", "", "events", "", ""), asks(ctx, "get", "batch", "jobs", "team", "any"), asks(ctx, "list", "batch", "jobs", "", ""),
		},
		"change a pod, delete one otherwise, run something in one, or create one": {
			asks(ctx, "patch", "", "pods", "team", "any"), asks(ctx, "update", "", "pods", "team", "any"),
			asks(ctx, "delete", "", "pods", "team", "any"),
			asks(ctx, "create", "", "pods", "team", ""), asks(ctx, "create", "", "pods/exec", "team", "any"),
			asks(ctx, "patch", "", "pods/ephemeralcontainers", "team", "any"),
			asks(ctx, "create", "", "pods/binding", "team", "any"), asks(ctx, "update", "", "pods/status", "team", "any"),
		},
	}
}

// TestHealingIsPermittedOnlyWhereItIsUsed installs the product with each value of rbac.healing and tries every line of its table.
func TestHealingIsPermittedOnlyWhereItIsUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.home()
	w.team("team")
	lines := documented(t, "The manager's token, by `rbac.healing`")
	const heals = oneCredential + ",global.imagePullSecretsCrs[0].healing=Evict"
	command := "install"
	for _, c := range []struct {
		name, set string
		column    int
	}{
		{"auto, while nobody heals", oneCredential, 1},
		{"auto, where somebody does", heals, 2},
		{"false, where somebody does", heals + ",rbac.healing=false", 1},
		{"true, while nobody heals", oneCredential + ",rbac.healing=true", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.runHelm(command, chart, "--set", c.set)
			command = "upgrade"
			stolen := w.stolen(managerAccount)
			w.tableHolds(t, lines, c.column, healingTries(w.Ctx), func(int) kubernetes.Interface { return stolen })
		})
	}
}
