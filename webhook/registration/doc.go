// Package registration tells API servers which admission requests to send to package webhook, where to, and which certificate
// to trust there: it writes the two webhook configurations and keeps them as they were written.
package registration
