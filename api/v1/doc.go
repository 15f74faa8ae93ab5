// Package v1 holds the ImagePullSecret API, tcr.tencentcloudcr.com/v1: its types and their registration in a scheme. It is a
// leaf: everything else of the product may import it.
//
// +groupName=tcr.tencentcloudcr.com
// +kubebuilder:object:generate=true
package v1
