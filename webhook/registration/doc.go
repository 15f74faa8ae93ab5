// Package registration tells API servers which admission requests to send to package webhook, at which address, and which certificate
// to trust there: it writes the two webhook configurations and keeps them as written.
package registration
