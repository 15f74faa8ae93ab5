package reflector

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/tcr-assistant/tcr-assistant/clientset"
	"github.com/tcr-assistant/tcr-assistant/latest"
)

const (
	// pageSize is how many objects of a list are requested, and held whole, at a time: 10,000 Secrets take 60 MiB while they are decoded.
	pageSize = 500
	// pageBytes is how much of a list is read at a time. Whoever may create objects can make them so large that a page does not fit into
	// memory. Then fewer are requested.
	pageBytes = 8 << 20
)

// pages is a source that lists by pages, and strips each page before the next one is requested: client-go passes on none before it has
// all of them. A streaming list takes longer, and more memory, since client-go collects it by key.
type pages[Object latest.Kind, Stripped any] struct {
	*cache.ListWatch
	store *Store[Object, Stripped]
	// size is how many objects are requested at a time.
	size int64
}

// ListWithContext returns a page, stripped. If the pages have expired, client-go asks it for the whole list.
func (p *pages[Object, Stripped]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	page, err := p.page(ctx, options)
	if err != nil {
		return nil, err
	}
	return p.store.strip(page)
}

// page returns a page of at most pageBytes, or a single object that is larger.
func (p *pages[Object, Stripped]) page(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	if options.Limit == 0 {
		return p.ListWatch.ListWithContext(ctx, options)
	}
	if options.Continue == "" {
		p.size = options.Limit
	}
	for ; p.size > 1; p.size /= 2 {
		options.Limit = p.size
		page, err := p.ListWatch.ListWithContext(clientset.AtMost(ctx, pageBytes), options)
		if !errors.Is(err, clientset.ErrTooLarge) {
			return page, err
		}
	}
	options.Limit = 1
	return p.ListWatch.ListWithContext(ctx, options)
}

// IsWatchListSemanticsUnSupported makes client-go list by pages.
func (*pages[Object, Stripped]) IsWatchListSemanticsUnSupported() bool { return true }

// strippedObject is what is left of an object of a list after stripping.
type strippedObject[Stripped any] struct{ stripped Stripped }

// GetObjectKind returns none.
func (*strippedObject[Stripped]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns the object itself: it is only passed on.
func (o *strippedObject[Stripped]) DeepCopyObject() runtime.Object { return o }

// strip returns a page of a list with its objects stripped.
func (s *Store[Object, Stripped]) strip(page runtime.Object) (*metainternalversion.List, error) {
	listed, err := meta.ListAccessor(page)
	if err != nil {
		return nil, err
	}
	stripped := &metainternalversion.List{
		ListMeta: metav1.ListMeta{ResourceVersion: listed.GetResourceVersion(), Continue: listed.GetContinue()},
		Items:    make([]runtime.Object, 0, meta.LenList(page)),
	}
	// Each object is allocated separately: whoever keeps one whole must not keep its page in memory.
	err = meta.EachListItemWithAlloc(page, func(object runtime.Object) error {
		stripped.Items = append(stripped.Items, &strippedObject[Stripped]{s.stripped(object)})
		return nil
	})
	return stripped, err
}
