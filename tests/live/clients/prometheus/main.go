// Prometheus' own discovery of services by Consul, as its library has it, with the relabelling of a
// scrape configuration:
//
//	discover CONFIGURATION
//
// Debian's Prometheus is built without this discovery. The configuration is a part of what
// Prometheus reads, one scrape configuration; what its targets are is written as one line of JSON
// each time they change.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"sort"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/consul"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"gopkg.in/yaml.v2"
)

type scrapeConfig struct {
	Discovery []*consul.SDConfig `yaml:"consul_sd_configs"`
	Relabel   []*relabel.Config  `yaml:"relabel_configs"`
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var config scrapeConfig
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		return err
	}
	for _, rule := range config.Relabel {
		rule.NameValidationScheme = model.UTF8Validation
	}
	registry := prometheus.NewRegistry()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	refresh := discovery.NewRefreshMetrics(registry)
	metrics, err := discovery.RegisterSDMetrics(registry, refresh)
	if err != nil {
		return err
	}
	manager := discovery.NewManager(context.Background(), logger, registry, metrics)
	configs := discovery.Configs{}
	for _, one := range config.Discovery {
		configs = append(configs, one)
	}
	if err := manager.ApplyConfig(map[string]discovery.Configs{"found": configs}); err != nil {
		return err
	}
	go manager.Run()
	out := json.NewEncoder(os.Stdout)
	for found := range manager.SyncCh() {
		if err := out.Encode(targets(found["found"], config.Relabel)); err != nil {
			return err
		}
	}
	return nil
}

// targets are the labels of all targets that the relabelling keeps.
func targets(groups []*targetgroup.Group, rules []*relabel.Config) []map[string]string {
	kept := []map[string]string{}
	for _, group := range groups {
		for _, target := range group.Targets {
			all := labels.NewBuilder(labels.EmptyLabels())
			for _, set := range []model.LabelSet{group.Labels, target} {
				for name, value := range set {
					all.Set(string(name), string(value))
				}
			}
			if relabel.ProcessBuilder(all, rules...) {
				kept = append(kept, all.Labels().Map())
			}
		}
	}
	sort.Slice(kept, func(i, j int) bool { return kept[i]["id"] < kept[j]["id"] })
	return kept
}
