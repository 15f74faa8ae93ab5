// Package v1 holds the ImagePullSecret API, tcr.tencentcloudcr.com/v1: its types, their registration in a scheme, and a
// typed client for them. It is a leaf: everything else of the product may import it.
//
// +groupName=tcr.tencentcloudcr.com
// +kubebuilder:object:generate=true
package v1
