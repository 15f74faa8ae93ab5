// Package webhook answers the API server's admission requests.
//
// mutate and validate are pure: rules and a request in, a response out. Handler decodes, asks the Index and answers. NewServer
// and Guard bound what callers, who are not authenticated, can make the process hold. Nothing here calls the API server;
// package registration, below, has it call here.
package webhook
