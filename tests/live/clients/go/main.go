// A round of the official Consul client for Go against the daemon at an address:
//
//	client ADDRESS        goes through all steps
//	client ADDRESS hold   takes the lock, says so, and gives it back when its input ends
//
// Every step prints its name when it holds. The client's own tests cover far more; here is what
// they leave out: several processes, and one life of a service from its registration to its end.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/consul/api/watch"
)

const (
	limit   = 10 * time.Second
	lockKey = "go/lock"
)

var steps = []struct {
	name string
	run  func(address string, c *api.Client) error
}{
	{"a service lives from its registration to its end", life},
	{"maintenance shows in the status of the whole", maintenance},
	{"a lock passes from process to process", locks},
	{"a semaphore lets as many in as it says", semaphore},
	{"a watch plan is told of an event", plan},
}

func main() {
	address := os.Args[1]
	client, err := api.NewClient(&api.Config{Address: address})
	if err != nil {
		fail("client", err)
	}
	if len(os.Args) > 2 {
		if err := hold(client); err != nil {
			fail("hold", err)
		}
		return
	}
	failed := false
	for _, step := range steps {
		if err := step.run(address, client); err != nil {
			fmt.Println("FAIL", step.name+":", err)
			failed = true
		} else {
			fmt.Println("ok", step.name)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func fail(what string, err error) {
	fmt.Println("FAIL", what+":", err)
	os.Exit(1)
}

func equal(what string, got, wanted any) error {
	if !reflect.DeepEqual(got, wanted) {
		return fmt.Errorf("%s is %#v and not %#v", what, got, wanted)
	}
	return nil
}

func life(_ string, c *api.Client) error {
	agent := c.Agent()
	// Check and Checks go over the wire as null.
	if err := agent.ServiceRegister(&api.AgentServiceRegistration{Name: "go-plain"}); err != nil {
		return err
	}
	err := agent.ServiceRegister(&api.AgentServiceRegistration{
		ID: "go-1", Name: "go-web", Tags: []string{"v1"}, Port: 8080, Address: "10.0.0.1",
		Meta:  map[string]string{"team": "shop"},
		Check: &api.AgentServiceCheck{TTL: "30s", Notes: "beats"},
	})
	if err != nil {
		return err
	}
	entries, meta, err := c.Health().Service("go-web", "v1", true, nil)
	if err != nil || len(entries) != 0 {
		return fmt.Errorf("passing before its first beat: %v, %w", entries, err)
	}
	if meta.LastIndex == 0 || !meta.KnownLeader {
		return fmt.Errorf("no index or no leader: %+v", meta)
	}
	go func() {
		time.Sleep(100 * time.Millisecond)
		_ = agent.UpdateTTL("service:go-1", "all well", api.HealthPassing)
	}()
	began := time.Now()
	options := &api.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: limit}
	entries, after, err := c.Health().Service("go-web", "v1", true, options)
	if err != nil || len(entries) != 1 {
		return fmt.Errorf("not passing after its beat: %v, %w", entries, err)
	}
	if took := time.Since(began); took > limit/2 || after.LastIndex <= meta.LastIndex {
		return fmt.Errorf("woken after %v with index %d", took, after.LastIndex)
	}
	service := entries[0].Service
	if err := errors.Join(
		equal("the ID", service.ID, "go-1"),
		equal("the metadata", service.Meta, map[string]string{"team": "shop"}),
		equal("the address", service.TaggedAddresses["lan_ipv4"], api.ServiceAddress{Address: "10.0.0.1", Port: 8080}),
		equal("the output", entries[0].Checks.AggregatedStatus(), api.HealthPassing),
	); err != nil {
		return err
	}
	for _, id := range []string{"go-1", "go-plain"} {
		if err := agent.ServiceDeregister(id); err != nil {
			return err
		}
	}
	entries, _, err = c.Health().Service("go-web", "", false, &api.QueryOptions{WaitIndex: after.LastIndex})
	if err != nil || len(entries) != 0 {
		return fmt.Errorf("still there: %v, %w", entries, err)
	}
	var status api.StatusError
	err = agent.ServiceDeregister("go-1")
	if !errors.As(err, &status) || status.Code != 404 {
		return fmt.Errorf("deregistered twice: %w", err)
	}
	return nil
}

func maintenance(_ string, c *api.Client) error {
	agent := c.Agent()
	if err := agent.ServiceRegister(&api.AgentServiceRegistration{Name: "go-maint"}); err != nil {
		return err
	}
	defer agent.ServiceDeregister("go-maint")
	// The agent's own status is that of the answer, which for the client is no more than critical.
	status := func(wanted, own string) error {
		entries, _, err := c.Health().Service("go-maint", "", false, nil)
		if err != nil || len(entries) != 1 {
			return fmt.Errorf("not there: %w", err)
		}
		info, _, err := agent.AgentHealthServiceByID("go-maint")
		return errors.Join(err,
			equal("the status in the catalog", entries[0].Checks.AggregatedStatus(), wanted),
			equal("the agent's own status", info, own))
	}
	return errors.Join(
		status(api.HealthPassing, api.HealthPassing),
		agent.EnableServiceMaintenance("go-maint", "disk"), status(api.HealthMaint, api.HealthCritical),
		agent.DisableServiceMaintenance("go-maint"), status(api.HealthPassing, api.HealthPassing),
		agent.EnableNodeMaintenance("power"), status(api.HealthMaint, api.HealthCritical),
		agent.DisableNodeMaintenance(), status(api.HealthPassing, api.HealthPassing),
	)
}

// hold takes the lock until the end of the input.
func hold(c *api.Client) error {
	lock, err := c.LockOpts(&api.LockOptions{Key: lockKey, LockWaitTime: limit})
	if err != nil {
		return err
	}
	if _, err := lock.Lock(nil); err != nil {
		return err
	}
	fmt.Println("held")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return lock.Unlock()
}

type holder struct {
	process *exec.Cmd
	input   io.WriteCloser
	said    chan string
}

func start(address string) (*holder, error) {
	process := exec.Command(os.Args[0], address, "hold")
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(output).ReadString('\n')
		said <- strings.TrimSpace(line)
	}()
	return &holder{process, input, said}, process.Start()
}

func (h *holder) holds() error {
	select {
	case said := <-h.said:
		return equal("what the process said", said, "held")
	case <-time.After(limit):
		return errors.New("the process does not get the lock")
	}
}

func (h *holder) end() error {
	return errors.Join(h.input.Close(), h.process.Wait())
}

func locks(address string, c *api.Client) error {
	first, err := start(address)
	if err != nil {
		return err
	}
	if err := first.holds(); err != nil {
		return err
	}
	lock, err := c.LockOpts(&api.LockOptions{Key: lockKey, LockTryOnce: true, LockWaitTime: 200 * time.Millisecond})
	if err != nil {
		return err
	}
	if lost, err := lock.Lock(nil); err != nil || lost != nil {
		return fmt.Errorf("taken twice: %v, %w", lost, err)
	}
	second, err := start(address)
	if err != nil {
		return err
	}
	select {
	case <-second.said:
		return errors.New("two processes have the lock")
	case <-time.After(300 * time.Millisecond):
	}
	return errors.Join(first.end(), second.holds(), second.end(), lock.Destroy())
}

func semaphore(_ string, c *api.Client) error {
	const room = 2
	free := func() (*api.Semaphore, error) {
		return c.SemaphoreOpts(&api.SemaphoreOptions{
			Prefix: "go/semaphore", Limit: room, SemaphoreTryOnce: true,
			SemaphoreWaitTime: 200 * time.Millisecond,
		})
	}
	var inside []*api.Semaphore
	for range room {
		one, err := free()
		if err != nil {
			return err
		}
		if lost, err := one.Acquire(nil); err != nil || lost == nil {
			return fmt.Errorf("not let in: %w", err)
		}
		inside = append(inside, one)
	}
	late, err := free()
	if err != nil {
		return err
	}
	if lost, err := late.Acquire(nil); err != nil || lost != nil {
		return fmt.Errorf("one too many: %v, %w", lost, err)
	}
	for _, one := range inside {
		if err := one.Release(); err != nil {
			return err
		}
	}
	if lost, err := late.Acquire(nil); err != nil || lost == nil {
		return fmt.Errorf("not let in after the others left: %w", err)
	}
	return errors.Join(late.Release(), late.Destroy())
}

func plan(address string, c *api.Client) error {
	plan, err := watch.Parse(map[string]any{"type": "event", "name": "go-event"})
	if err != nil {
		return err
	}
	told := make(chan string, 16)
	plan.Handler = func(_ uint64, result any) {
		for _, event := range result.([]*api.UserEvent) {
			told <- string(event.Payload)
		}
	}
	go func() { _ = plan.Run(address) }()
	defer plan.Stop()
	time.Sleep(200 * time.Millisecond)
	if _, _, err := c.Event().Fire(&api.UserEvent{Name: "go-event", Payload: []byte("now")}, nil); err != nil {
		return err
	}
	select {
	case payload := <-told:
		return equal("the payload", payload, "now")
	case <-time.After(limit):
		return errors.New("nothing told")
	}
}
