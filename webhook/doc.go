// Package webhook answers the API server's admission requests.
//
// The way of an admission review:
//
//	API server ──> NewServer, Guard ──> intake ──> decode ──> mutate or validate ──> encode ──> API server
//	               bound connections    bounds     is strict          ^
//	                                    bytes                         └── Attachments: the leader's Index, or what it has derived
//
// mutate and validate are pure: what is attached and a request in, a response out. Unless Callers are demanded to show a certificate,
// nobody knows who calls, so NewServer, Guard and intake bound what they can make the process hold: connections, and the bytes of reviews and of answers that nobody has read yet. What could
// not be answered gets an HTTP error instead of an AdmissionReview, and the webhook's failure policy decides.
//
// Nothing here calls the API server; package registration, below, has it call here.
package webhook
