package main

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// A seed is a list that an informer takes for its first one, so that its watch begins at the seed's version: what a
// client does that kept its state, or that was at another server before.

// fetchSeed lists straight from the server of --direct; with a version it makes that an empty list of this version.
func (i *informer) fetchSeed(ctx context.Context, version string) error {
	seed, err := i.direct.list(ctx, metav1.ListOptions{LabelSelector: i.labels})
	if err != nil {
		return err
	}
	if version != "" {
		if err := meta.SetList(seed, nil); err != nil {
			return err
		}
		access, err := meta.ListAccessor(seed)
		if err != nil {
			return err
		}
		access.SetResourceVersion(version)
	}
	i.note(func(*state) { i.seed = seed })
	return nil
}

// takeSeed returns the seed, once.
func (i *informer) takeSeed() runtime.Object {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	seed := i.seed
	i.seed = nil
	return seed
}

// startsFrom notes the version of a list.
func (i *informer) startsFrom(list runtime.Object) error {
	access, err := meta.ListAccessor(list)
	if err != nil {
		return err
	}
	i.note(func(noted *state) { noted.Base = access.GetResourceVersion() })
	return nil
}
