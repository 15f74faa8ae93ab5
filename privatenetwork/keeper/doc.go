// Package keeper asks the cloud how to reach registries from private networks, and publishes the resulting lines for hosts-updater in the
// ConfigMap updater-config-discovered. The ConfigMap of the install value global.hosts it only reads.
//
//	Index ──rules with a Network───┐                                 ┌──> ConfigMap ──> hosts-updater on each node
//	cloud ──links, names, a minute─┼──> privatenetwork.Resolve, Merge ┤
//	ConfigMap of global.hosts──────┘                                 └──> Reach ──> condition PrivateNetworkReady
//
// The cloud's last answers are stored in the ConfigMap itself, so neither a cloud that does not answer nor a new leader changes a line.
package keeper
