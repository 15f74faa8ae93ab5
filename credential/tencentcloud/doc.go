// Package tencentcloud calls the cloud's API: it issues, lists and revokes the tokens of a registry, and asks how the registry is
// reached from a private network.
//
// Requests are signed and sent by Tencent's SDK, through a transport that lets nothing but an answer of the API pass: the SDK's own
// errors repeat whole bodies, and with them tokens, or the signature that a proxy's page echoes. Every error of this package is an
// *Error in words of its own. It says what to do, and holds no body, token, signature or key.
//
// Who calls is decided by a Caller: keys that were given, or else the first of these that there is: the role of the pod's OIDC
// identity, the environment, the role of the node.
package tencentcloud
