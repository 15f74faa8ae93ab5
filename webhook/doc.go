// Package webhook answers the API server's admission requests.
//
// The way of an admission review:
//
//	API server ──> NewServer, Guard ──> intake ──> decode ──> mutate or validate ──> encode ──> API server
//	               bound connections    bounds     is strict          ^
//	                                    bytes                         └── Rules, from the Index
//
// mutate and validate are pure: rules and a request in, a response out. Callers are not authenticated, so NewServer, Guard and intake bound
// what they can make the process hold: connections, and the bytes of reviews and of answers that nobody has read yet. What could
// not be answered gets an HTTP error instead of an AdmissionReview, and the webhook's failure policy decides.
//
// Nothing here calls the API server; package registration, below, has it call here.
package webhook
