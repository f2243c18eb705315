package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// scope is what part of a kind is watched.
type scope struct{ namespace, labels string }

// event is one change as it came over the wire.
type event struct {
	Type    string `json:"type"`
	Key     string `json:"key"`
	UID     string `json:"uid"`
	Version string `json:"version"`
}

// state is an informer as `state` tells it; age is that of its newest watch, in seconds, which for a
// streaming list begins after the list. Base is the version of its newest list or of its seed.
type state struct {
	Synced  bool     `json:"synced"`
	Base    string   `json:"base"`
	Lists   int      `json:"lists"`
	Streams int      `json:"streams"`
	Watches int      `json:"watches"`
	Age     float64  `json:"age"`
	Failed  []string `json:"failed"`
	Events  []event  `json:"events"`
}

// informer is a shared informer of client-go whose requests and events are noted on their way.
type informer struct {
	name   string
	kind   string
	form   string
	shared cache.SharedIndexInformer
	labels string
	direct *source
	mutex  sync.Mutex
	noted  state
	began  time.Time
	seed   runtime.Object
}

// source is what an informer's reflector calls.
type source struct {
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// newInformers makes an informer for each kind in each form that the kind has; none of them runs. They use the
// server of config; what they are seeded with comes from the one of direct.
func newInformers(config, direct string, where scope, kinds, forms []string) ([]*informer, error) {
	var all []*informer
	for _, form := range forms {
		clients, err := newClients(config, form)
		if err != nil {
			return nil, err
		}
		beside, err := newClients(direct, form)
		if err != nil {
			return nil, err
		}
		for _, kind := range kinds {
			source, example, err := clients.source(kind, where.namespace)
			if err != nil {
				return nil, err
			}
			if source == nil {
				continue
			}
			one := &informer{name: kind + "/" + form, kind: kind, form: form, labels: where.labels}
			if one.direct, _, err = beside.source(kind, where.namespace); err != nil {
				return nil, err
			}
			one.shared = cache.NewSharedIndexInformer(one.noting(*source), example, 0, cache.Indexers{})
			all = append(all, one)
		}
	}
	return all, nil
}

// noting wraps list and watch so that what the reflector asks and gets is counted.
func (i *informer) noting(from source) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = i.labels
			if seed := i.takeSeed(); seed != nil {
				return seed, i.startsFrom(seed)
			}
			i.note(func(noted *state) { noted.Lists++ })
			list, err := from.list(ctx, options)
			i.failed("list", options, err)
			if err == nil {
				err = i.startsFrom(list)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.LabelSelector = i.labels
			initial := options.SendInitialEvents != nil && *options.SendInitialEvents
			i.note(func(noted *state) {
				i.began = time.Now()
				if initial {
					noted.Streams++
				} else {
					noted.Watches++
				}
			})
			stream, err := from.watch(ctx, options)
			i.failed("watch", options, err)
			if err != nil {
				return nil, err
			}
			return watch.Filter(stream, i.noteEvents(initial)), nil
		},
	}
}

// noteEvents notes changes; the objects of a streaming list are its beginning, not changes.
func (i *informer) noteEvents(initial bool) watch.FilterFunc {
	return func(in watch.Event) (watch.Event, bool) {
		switch in.Type {
		case watch.Error:
			i.note(func(noted *state) { noted.Failed = append(noted.Failed, fmt.Sprintf("event %v", in.Object)) })
		case watch.Bookmark:
			if object, err := meta.Accessor(in.Object); err == nil &&
				object.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true" {
				initial = false
				i.note(func(*state) { i.began = time.Now() })
			}
		default:
			if object, err := meta.Accessor(in.Object); err == nil && !initial {
				i.note(func(noted *state) {
					noted.Events = append(noted.Events, event{string(in.Type), key(object),
						string(object.GetUID()), object.GetResourceVersion()})
				})
			}
		}
		return in, true
	}
}

func (i *informer) failed(what string, options metav1.ListOptions, err error) {
	if err != nil {
		said := fmt.Sprintf("%s from %q: %v", what, options.ResourceVersion, err)
		i.note(func(noted *state) { noted.Failed = append(noted.Failed, said) })
	}
}

func (i *informer) note(change func(*state)) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	change(&i.noted)
}

func (i *informer) state() state {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	now := i.noted
	now.Synced = i.shared.HasSynced()
	now.Age = time.Since(i.began).Seconds()
	now.Failed = append([]string{}, now.Failed...)
	now.Events = append([]event{}, now.Events...)
	return now
}

func key(object metav1.Object) string { return object.GetNamespace() + "/" + object.GetName() }

func split(text string) []string { return strings.Split(text, ",") }
