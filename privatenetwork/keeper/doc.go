// Package keeper asks the cloud how registries are reached from private networks, and publishes what follows for hosts-updater: the
// ConfigMap updater-config-discovered, beside that of the install value global.hosts, which it only reads.
//
//	Index ──rules with a Network───┐                                 ┌──> ConfigMap ──> hosts-updater on each node
//	cloud ──links, names, a minute─┼──> privatenetwork.Resolve, Merge ┤
//	ConfigMap of global.hosts──────┘                                 └──> Reach ──> condition PrivateNetworkReady
//
// What the cloud told last is kept in the ConfigMap itself: a cloud that is away changes no line, and neither does another leader.
package keeper
