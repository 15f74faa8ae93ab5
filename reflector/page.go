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
	// pageSize is how many objects of a list are asked for, and held whole, at a time: 10,000 Secrets take 60 MiB while they are decoded.
	pageSize = 500
	// pageBytes is how much of a list is read at a time: objects may be so large that a page of them is more than there is room for, and
	// whoever may create them decides about that. Fewer of them are asked for then.
	pageBytes = 8 << 20
)

// pages is a source that is asked for pages, and strips each before the next is asked for: client-go passes none on before it has
// all. A list that is streamed, object by object, takes more memory, for client-go files it by key, and longer.
type pages[Object latest.Kind, Stripped any] struct {
	*cache.ListWatch
	store *Store[Object, Stripped]
	// size is how many objects are asked for at a time.
	size int64
}

// ListWithContext returns a page, stripped. Where pages are no longer to be had, it is asked for all at once.
func (p *pages[Object, Stripped]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	page, err := p.page(ctx, options)
	if err != nil {
		return nil, err
	}
	return p.store.strip(page)
}

// page returns a page of no more than pageBytes, unless that is one object.
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

// IsWatchListSemanticsUnSupported has client-go ask for pages.
func (*pages[Object, Stripped]) IsWatchListSemanticsUnSupported() bool { return true }

// strippedObject is an object of a list, of which only what is needed is left.
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
	// Whoever keeps an object whole must not keep its page with it.
	err = meta.EachListItemWithAlloc(page, func(object runtime.Object) error {
		stripped.Items = append(stripped.Items, &strippedObject[Stripped]{s.stripped(object)})
		return nil
	})
	return stripped, err
}
