// Package webhook answers the API server's admission requests, and registers itself with it.
//
// mutate and validate are pure: rules and a request in, a response out. Handler decodes, asks the Index and answers; nothing
// on that path calls the API server. NewServer and Guard bound what callers, who are not authenticated, can make the process
// hold. Registrar writes the two webhook configurations.
package webhook
