package main

import (
	"fmt"
	"net/netip"

	"github.com/tcr-assistant/tcr-assistant/credential/rotation"
	"github.com/tcr-assistant/tcr-assistant/hostsd"
	"github.com/tcr-assistant/tcr-assistant/privatenetwork/keeper"
	"github.com/tcr-assistant/tcr-assistant/pullsecret"
)

// network returns a Keeper that publishes the private addresses of registries in a term of leadership.
func (m *manager) network(index *pullsecret.Index) *keeper.Keeper {
	return keeper.New(keeper.Config{
		Log: m.log, Index: index, ConfigMaps: m.client.ConfigMaps(m.options.hostsUpdater), Namespace: m.options.hostsUpdater,
		Owner: m.owner, Parse: addresses, Recorder: m.recorder,
		Registry: func(place rotation.Place) (keeper.Registry, error) { return m.cloud.registry(place) },
	})
}

// addresses returns the addresses of each domain in the ConfigMap of global.hosts, as hosts-updater reads it.
func addresses(data map[string]string) (map[string][]netip.Addr, error) {
	config, err := hostsd.ParseConfig([]byte(data[hostsd.ConfigFile]))
	if err != nil {
		return nil, fmt.Errorf("%s %w", hostsd.ConfigFile, err)
	}
	addresses := map[string][]netip.Addr{}
	for _, entry := range config.Entries {
		addresses[entry.Domain()] = append(addresses[entry.Domain()], entry.Addr())
	}
	return addresses, nil
}
