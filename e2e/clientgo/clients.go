package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const protobuf = "application/vnd.kubernetes.protobuf"

// resources is every kind that can be watched; the ones without a group of Kubernetes' own are custom.
var resources = map[string]schema.GroupVersionResource{
	"pods":           {Version: "v1", Resource: "pods"},
	"services":       {Version: "v1", Resource: "services"},
	"configmaps":     {Version: "v1", Resource: "configmaps"},
	"endpointslices": {Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	"widgets":        {Group: "e2e.yurt", Version: "v1", Resource: "widgets"},
}

// clients are the three kinds of clients of client-go, all asking for one form.
type clients struct {
	form     string
	typed    kubernetes.Interface
	dynamic  dynamic.Interface
	metadata metadata.Interface
}

func newClients(path, form string) (*clients, error) {
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = -1, -1
	config.UserAgent = "yurt-e2e-clientgo"
	plain := rest.CopyConfig(config)
	if form == "protobuf" {
		config.ContentType = protobuf
		config.AcceptContentTypes = protobuf + ",application/json"
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	untyped, err := dynamic.NewForConfig(plain)
	if err != nil {
		return nil, err
	}
	bare, err := metadata.NewForConfig(plain)
	return &clients{form: form, typed: typed, dynamic: untyped, metadata: bare}, err
}

// source lists and watches a kind; none for a custom resource in protobuf, which does not exist.
func (c *clients) source(kind, namespace string) (*source, runtime.Object, error) {
	resource, known := resources[kind]
	switch {
	case !known:
		return nil, nil, fmt.Errorf("unknown kind %q", kind)
	case c.form == "metadata":
		api := c.metadata.Resource(resource).Namespace(namespace)
		return from(api.List, api.Watch), &metav1.PartialObjectMetadata{}, nil
	case kind == "widgets" && c.form == "protobuf":
		return nil, nil, nil
	case kind == "widgets":
		api := c.dynamic.Resource(resource).Namespace(namespace)
		return from(api.List, api.Watch), &unstructured.Unstructured{}, nil
	default:
		source, example := c.builtIn(kind, namespace)
		return source, example, nil
	}
}

func (c *clients) builtIn(kind, namespace string) (*source, runtime.Object) {
	switch kind {
	case "pods":
		api := c.typed.CoreV1().Pods(namespace)
		return from(api.List, api.Watch), &corev1.Pod{}
	case "services":
		api := c.typed.CoreV1().Services(namespace)
		return from(api.List, api.Watch), &corev1.Service{}
	case "configmaps":
		api := c.typed.CoreV1().ConfigMaps(namespace)
		return from(api.List, api.Watch), &corev1.ConfigMap{}
	default:
		api := c.typed.DiscoveryV1().EndpointSlices(namespace)
		return from(api.List, api.Watch), &discoveryv1.EndpointSlice{}
	}
}

func from[L runtime.Object](
	list func(context.Context, metav1.ListOptions) (L, error),
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error),
) *source {
	return &source{
		list:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) },
		watch: watch,
	}
}
