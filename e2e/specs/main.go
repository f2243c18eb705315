// Command specs runs upstream's API-machinery specs, of Kubernetes' own end-to-end tests, against one server.
// It takes the flags of upstream's test binary and --results, a file that gets one JSON line per spec.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"

	_ "k8s.io/kubernetes/test/e2e/apimachinery"
)

// result is what became of one spec.
type result struct {
	Name     string  `json:"name"`
	State    string  `json:"state"`
	Seconds  float64 `json:"seconds"`
	Attempts int     `json:"attempts"`
	Message  string  `json:"message,omitempty"`
}

// outcome lets a program that is no `go test` run a suite.
type outcome struct{ failed bool }

func (o *outcome) Fail() { o.failed = true }

func main() {
	results := flag.String("results", "", "file that gets one JSON line per spec")
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	framework.AfterReadingAllFlags(&framework.TestContext)
	if err := reportTo(*results); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	run := &outcome{}
	passed := ginkgo.RunSpecs(run, "API machinery", suite, reporter)
	if !passed || run.failed {
		os.Exit(1)
	}
}

// reportTo writes a line when a spec has ended, so that a run that is cut short leaves what it knows.
func reportTo(path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(file)
	ginkgo.ReportAfterEach(func(report ginkgo.SpecReport) {
		if report.State.Is(types.SpecStateSkipped|types.SpecStatePending) && report.Failure.Message == "" {
			return
		}
		_ = lines.Encode(result{
			Name:     strings.Join(append(report.ContainerHierarchyTexts, report.LeafNodeText), " "),
			State:    report.State.String(),
			Seconds:  report.RunTime.Seconds(),
			Attempts: report.NumAttempts,
			Message:  report.Failure.Message,
		})
	})
	return nil
}
