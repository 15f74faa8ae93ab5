package clientset

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/tools/cache"
)

// ByName narrows a list or a watch to the object with that name, or to the one in each namespace. An RBAC rule with resourceNames grants
// no more than that, and the API server then sends no more.
func ByName(name string) func(*metav1.ListOptions) {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return func(options *metav1.ListOptions) { options.FieldSelector = selector }
}

// Named lists and watches the object with that name, or the one in each namespace.
func Named[Kind interface {
	runtime.Object
	metav1.Object
}, List runtime.Object](client *gentype.ClientWithList[Kind, List], name string) *cache.ListWatch {
	narrow := ByName(name)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			return client.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			return client.Watch(ctx, options)
		},
	}
}
