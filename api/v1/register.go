package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the API group and version of this package.
	GroupVersion = schema.GroupVersion{Group: "tcr.tencentcloudcr.com", Version: "v1"}
	// Kind is the one kind that users write.
	Kind = GroupVersion.WithKind("ImagePullSecret")

	schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(GroupVersion, &ImagePullSecret{}, &ImagePullSecretList{}, &DerivedAttachments{}, &DerivedAttachmentsList{})
		metav1.AddToGroupVersion(scheme, GroupVersion)
		return nil
	})
	// AddToScheme registers the types of this package.
	AddToScheme = schemeBuilder.AddToScheme
)
