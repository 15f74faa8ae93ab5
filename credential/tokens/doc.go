// Package tokens has the cloud issue the credentials of ImagePullSecrets that name a registry instance, and supplies the Index with them.
//
//	Index ──rules with a Registry──┐                                  ┌──> Index.Supply ──> issued everywhere
//	records ──of what is gone──────┼──> issuer.Sync, one at a time ──┤
//	Secrets that stand now ────────┘    for each ImagePullSecret      └──> the next Sync, at its time
//
// What is issued stays issued, whatever the cloud says.
package tokens
