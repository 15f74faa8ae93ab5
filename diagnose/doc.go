// Package diagnose says why a pod cannot pull its images. It is pure: what was seen goes in, what is wrong comes out. It holds no
// password: of a Secret it knows only which hosts it is for, whether a kubelet can read it, and its checksum.
package diagnose
