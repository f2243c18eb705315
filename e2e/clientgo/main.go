// Command clientgo keeps client-go informers of one namespace and answers questions about them, one JSON line
// for a line of standard input. It ends when that ends.
//
//	seed     lists everything from the server of --direct; the informers take that for their first list
//	empty N  lets the informers begin with an empty list of version N
//	begin    starts the informers
//	state    every informer: which events came over the wire, how often it listed
//	truth    lists everything from the server of --direct and remembers it
//	compare  where a store differs from the remembered truth
//
// Streaming lists are switched on as client-go does it: KUBE_FEATURE_WatchListClient=true.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	through := flag.String("through", "", "kubeconfig of the server that the informers use")
	direct := flag.String("direct", "", "kubeconfig of the server that tells the truth")
	namespace := flag.String("namespace", "", "namespace to watch; empty for all")
	forms := flag.String("forms", "json,protobuf,metadata", "representations to ask for")
	kinds := flag.String("kinds", "pods,services,configmaps,endpointslices,widgets", "what to watch")
	labels := flag.String("labels", "", "label selector of every informer")
	flag.Parse()
	if err := run(*through, *direct, scope{*namespace, *labels}, split(*kinds), split(*forms)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(through, direct string, where scope, kinds, forms []string) error {
	informers, err := newInformers(through, direct, where, kinds, forms)
	if err != nil {
		return err
	}
	truth, err := newTruth(direct, where, kinds)
	if err != nil {
		return err
	}
	answers := json.NewEncoder(os.Stdout)
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		if err := answers.Encode(answer(questions.Text(), informers, truth)); err != nil {
			return err
		}
	}
	return questions.Err()
}

func answer(question string, informers []*informer, truth *truth) any {
	question, version, _ := strings.Cut(question, " ")
	switch question {
	case "seed", "empty":
		for _, informer := range informers {
			if err := informer.fetchSeed(context.Background(), version); err != nil {
				return map[string]string{"error": err.Error()}
			}
		}
		return map[string]string{}
	case "begin":
		for _, informer := range informers {
			go informer.shared.RunWithContext(context.Background())
		}
		return map[string]string{}
	case "state":
		states := map[string]state{}
		for _, informer := range informers {
			states[informer.name] = informer.state()
		}
		return states
	case "truth":
		if err := truth.fetch(context.Background()); err != nil {
			return map[string]string{"error": err.Error()}
		}
		return map[string]string{}
	case "compare":
		differences := map[string][]string{}
		for _, informer := range informers {
			if found := truth.compare(informer); len(found) > 0 {
				differences[informer.name] = found
			}
		}
		return differences
	default:
		return map[string]string{"error": "unknown question " + question}
	}
}
