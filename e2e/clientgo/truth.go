package main

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// truth is what a server told last, each kind in full and in its metadata.
type truth struct {
	sources map[string]*source
	labels  string
	held    map[string]map[string]runtime.Object
}

func newTruth(config string, where scope, kinds []string) (*truth, error) {
	clients, err := newClients(config, "json")
	if err != nil {
		return nil, err
	}
	sources := map[string]*source{}
	for _, kind := range kinds {
		if sources[kind], _, err = clients.source(kind, where.namespace); err != nil {
			return nil, err
		}
	}
	return &truth{sources: sources, labels: where.labels}, nil
}

func (t *truth) fetch(ctx context.Context) error {
	held := map[string]map[string]runtime.Object{}
	for kind, source := range t.sources {
		list, err := source.list(ctx, metav1.ListOptions{LabelSelector: t.labels})
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		held[kind] = map[string]runtime.Object{}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			object, err := meta.Accessor(item)
			if err == nil {
				held[kind][key(object)] = item
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	t.held = held
	return nil
}

// compare says in which objects the informer's store is not what the truth is.
func (t *truth) compare(i *informer) []string {
	var differences []string
	wanted := t.held[i.kind]
	found := map[string]bool{}
	for _, stored := range i.shared.GetStore().List() {
		object, err := meta.Accessor(stored)
		if err != nil {
			return append(differences, err.Error())
		}
		name := key(object)
		found[name] = true
		if have, isObject := stored.(runtime.Object); !isObject || wanted[name] == nil {
			differences = append(differences, name+" should not be there")
		} else if said := different(have, wanted[name], i.form); said != "" {
			differences = append(differences, name+" "+said)
		}
	}
	for name := range wanted {
		if !found[name] {
			differences = append(differences, name+" is missing")
		}
	}
	return differences
}

func different(have, want runtime.Object, form string) string {
	var left, right any = untyped(have), untyped(want)
	if form == "metadata" {
		bare := &metav1.PartialObjectMetadata{}
		if err := metadataOf(want, bare); err != nil {
			return err.Error()
		}
		right = untyped(bare)
	}
	if equality.Semantic.DeepEqual(left, right) {
		return ""
	}
	return fmt.Sprintf("is %+v and not %+v", left, right)
}

// untyped takes kind and version off, which only some clients fill in.
func untyped(object runtime.Object) runtime.Object {
	copied := object.DeepCopyObject()
	copied.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	return copied
}

func metadataOf(object runtime.Object, bare *metav1.PartialObjectMetadata) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(
		map[string]any{"metadata": fields["metadata"]}, bare)
}
