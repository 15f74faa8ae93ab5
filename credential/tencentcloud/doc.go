// Package tencentcloud calls the cloud's API: it issues, lists and revokes the tokens of a registry, and asks how to reach the registry
// from a private network.
//
// Requests are signed and sent by Tencent's SDK, through a transport that passes on only answers of the API: the SDK's own errors quote
// whole bodies, and with them tokens, or the signature that a proxy's error page echoes. Every error of this package is an *Error with a
// text of its own. It says what to do, and contains no body, token, signature or key.
//
// A Caller decides which identity calls: the given keys, or else the first of these that exists: the role of the pod's OIDC identity, the
// environment, the role of the node.
package tencentcloud
