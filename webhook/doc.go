// Package webhook answers the API server's admission requests, and registers itself with it.
//
// Mutate and Validate are pure: rules and a request in, a verdict out. Handler decodes, asks the Index and answers; nothing
// on that path calls the API server. Registrar writes the two webhook configurations.
package webhook
