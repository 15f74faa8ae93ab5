//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tcr-assistant/tcr-assistant/test/harness/manager"
)

func uninstall(w *world, hosts string) {
	w.fromTheCloud()
	require.Len(w.T, w.cloud.Tokens(registryID), 1)
	said := w.helm("uninstall", "tcr-assistant", "--namespace="+manager.Namespace, "--wait", "--timeout="+hang.String())
	assert.Contains(w.T, said, "nothing is left to remove", "the log of the job is printed")
	assert.NotContains(w.T, said, "tokens were not revoked")
	assert.Empty(w.T, w.cloud.Tokens(registryID), "what the cloud has issued is revoked")
	w.Eventually("the hosts file is as before the install", func() error {
		if text := w.hostsFile(); text != hosts {
			return fmt.Errorf("it is %q instead of %q", text, hosts)
		}
		return nil
	})
	// Helm deletes neither the namespace nor what is in a chart's folder crds, of which the API server makes an APIService.
	kept := []string{
		"apiservice.apiregistration.k8s.io/v1.tcr.tencentcloudcr.com",
		"customresourcedefinition.apiextensions.k8s.io/derivedattachments.tcr.tencentcloudcr.com",
		"customresourcedefinition.apiextensions.k8s.io/imagepullsecrets.tcr.tencentcloudcr.com",
		"namespace/" + manager.Namespace,
	}
	w.Eventually("nothing is left", func() error {
		if left := w.left(); strings.Join(left, " ") != strings.Join(kept, " ") {
			return fmt.Errorf("there is %q", left)
		}
		return nil
	})
	accounts, err := w.Client.CoreV1().ServiceAccounts("").List(w.Ctx, metav1.ListOptions{})
	require.NoError(w.T, err)
	for _, account := range accounts.Items {
		assert.Empty(w.T, account.ImagePullSecrets, account.Namespace+"/"+account.Name)
	}
	running, err := w.Client.CoreV1().Pods("new-0").Get(w.Ctx, "app", metav1.GetOptions{})
	require.NoError(w.T, err)
	require.NoError(w.T, runs(running), "what runs goes on running")
}

// left returns every object that the product's names are in, but events, which go by themselves.
func (w *world) left() []string {
	w.T.Helper()
	kinds := strings.Fields(w.Kubectl("api-resources", "--verbs=list", "--output=name"))
	var wanted []string
	for _, kind := range kinds {
		if kind != "events" && kind != "events.events.k8s.io" {
			wanted = append(wanted, kind)
		}
	}
	var list struct {
		Items []struct {
			APIVersion, Kind string
			Metadata         struct{ Namespace, Name string }
		}
	}
	require.NoError(w.T, json.Unmarshal([]byte(w.Kubectl("get", strings.Join(wanted, ","), "--all-namespaces", "--output=json")), &list))
	found := map[string]bool{}
	for _, item := range list.Items {
		for _, name := range []string{"tcr-assistant", "tcr.ips", "tcr.tencentcloudcr.com", "hosts-updater", "updater-config"} {
			if strings.Contains(item.Metadata.Name, name) || item.APIVersion == "tcr.tencentcloudcr.com/v1" {
				group, _, grouped := strings.Cut(item.APIVersion, "/")
				kind := strings.ToLower(item.Kind)
				if grouped {
					kind += "." + group
				}
				found[kind+"/"+item.Metadata.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
