// kfake: franz-go's imitation of a Kafka cluster, with the faults that the tests ask for.
//
//	go run . --topics odin.trades:12,odin.social:12 --brokers 3
//
// prints one line of JSON when it is ready, `{"bootstrap":"127.0.0.1:…,…","control":"127.0.0.1:…"}`,
// and runs until its standard input ends. A POST to the control address with the JSON of one
// `command` is answered by the JSON of its result, or by the status 400 and the reason.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// command is what the control port understands. Do names the action; the rest is its arguments.
type command struct {
	Do string `json:"do"`

	// fault: requests of these API keys (none: all), to these nodes, about this topic, these
	// partitions and this group are answered with Error, Count times (-1: until removed).
	Keys       []int16 `json:"keys"`
	Nodes      []int32 `json:"nodes"`
	Topic      string  `json:"topic"`
	Partitions []int32 `json:"partitions"`
	Group      string  `json:"group"`
	TopLevel   bool    `json:"top_level"`
	Observe    bool    `json:"observe"`
	Error      int16   `json:"error"`
	Count      int     `json:"count"`

	// hits, remove: of a fault that was made before.
	Fault int `json:"fault"`

	// create, leader, move, delete_records, delay.
	Partition int32             `json:"partition"`
	Node      int32             `json:"node"`
	Offset    int64             `json:"offset"`
	Configs   map[string]string `json:"configs"`
	Seconds   float64           `json:"seconds"`
	Amount    int32             `json:"amount"`
}

// stage is the cluster with the faults and delays made so far.
type stage struct {
	cluster *kfake.Cluster

	mu     sync.Mutex
	faults []*kfake.FaultHandle
	// Seconds by API key and node; a request waits that long before it is answered.
	delays map[[2]int32]time.Duration
}

func (s *stage) perform(c command) (any, error) {
	switch c.Do {
	case "fault":
		return s.fault(c)
	case "hits":
		handle, err := s.handle(c.Fault)
		if err != nil {
			return nil, err
		}
		return handle.Hits(), nil
	case "remove":
		handle, err := s.handle(c.Fault)
		if err != nil {
			return nil, err
		}
		handle.Remove()
		return nil, nil
	case "clear":
		s.clear()
		return nil, nil
	case "delay":
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range c.Keys {
			s.delays[[2]int32{int32(key), c.Node}] = time.Duration(c.Seconds * float64(time.Second))
		}
		return nil, nil
	case "create":
		return nil, s.cluster.CreateTopic(c.Topic, c.Amount, c.Configs)
	case "delete":
		return nil, s.cluster.DeleteTopic(c.Topic)
	case "delete_records":
		return nil, s.cluster.DeleteRecords(c.Topic, c.Partition, c.Offset)
	case "leader":
		return s.cluster.LeaderFor(c.Topic, c.Partition), nil
	case "move":
		return nil, s.cluster.MoveTopicPartition(c.Topic, c.Partition, c.Node)
	case "rehash":
		s.cluster.RehashCoordinators()
		return nil, nil
	}
	return nil, fmt.Errorf("no command %q", c.Do)
}

func (s *stage) fault(c command) (any, error) {
	fault := kfake.Fault{
		Nodes:      c.Nodes,
		Topic:      c.Topic,
		Partitions: c.Partitions,
		Group:      c.Group,
		TopLevel:   c.TopLevel,
		Observe:    c.Observe,
		Count:      c.Count,
	}
	for _, key := range c.Keys {
		fault.Keys = append(fault.Keys, kmsg.Key(key))
	}
	if !c.Observe && !errors.As(kerr.ErrorForCode(c.Error), &fault.Err) {
		return nil, fmt.Errorf("no error %d", c.Error)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, s.cluster.Fault(fault))
	return len(s.faults) - 1, nil
}

func (s *stage) handle(number int) (*kfake.FaultHandle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < 0 || number >= len(s.faults) {
		return nil, fmt.Errorf("no fault %d", number)
	}
	return s.faults[number], nil
}

func (s *stage) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, handle := range s.faults {
		handle.Remove()
	}
	clear(s.delays)
}

// hold lets a request wait where a delay says so; the cluster answers others meanwhile.
func (s *stage) hold(request kmsg.Request) (kmsg.Response, error, bool) {
	s.cluster.KeepControl()
	node := s.cluster.CurrentNode()
	s.mu.Lock()
	delay := s.delays[[2]int32{int32(request.Key()), node}]
	s.mu.Unlock()
	if delay > 0 {
		s.cluster.SleepControl(func() { time.Sleep(delay) })
	}
	return nil, nil, false
}

func (s *stage) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	var c command
	decoder := json.NewDecoder(request.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := s.perform(c)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	if err := json.NewEncoder(answer).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// pairs reads `name:number,name:number`.
func pairs(text string) (map[string]int, error) {
	found := map[string]int{}
	for _, pair := range strings.Split(text, ",") {
		if pair == "" {
			continue
		}
		name, number, _ := strings.Cut(pair, ":")
		value, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("%q is not name:number", pair)
		}
		found[name] = value
	}
	return found, nil
}

// capped is what a broker of the newest stable Kafka answers, with lower versions of some APIs;
// -1 leaves an API out.
func capped(text string) (*kversion.Versions, error) {
	limits, err := pairs(text)
	if err != nil {
		return nil, err
	}
	versions := kversion.Stable()
	for name, version := range limits {
		key, err := strconv.ParseInt(name, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q is not the number of an API", name)
		}
		versions.SetMaxKeyVersion(int16(key), int16(version))
	}
	return versions, nil
}

func run() error {
	topics := flag.String("topics", "", "name:partitions, separated by commas")
	brokers := flag.Int("brokers", 3, "how many")
	versions := flag.String("max-versions", "", "API key:version, separated by commas; -1: none")
	create := flag.Bool("auto-create", false, "create topics that a question for them allows")
	flag.Parse()
	seeds, err := pairs(*topics)
	if err != nil {
		return err
	}
	options := []kfake.Opt{kfake.NumBrokers(*brokers), kfake.SleepOutOfOrder()}
	for name, count := range seeds {
		options = append(options, kfake.SeedTopics(int32(count), name))
	}
	if *create {
		options = append(options, kfake.AllowAutoTopicCreation())
	}
	if *versions != "" {
		limits, err := capped(*versions)
		if err != nil {
			return err
		}
		options = append(options, kfake.MaxVersions(limits))
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		return err
	}
	defer cluster.Close()
	s := &stage{cluster: cluster, delays: map[[2]int32]time.Duration{}}
	cluster.Control(s.hold)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	defer server.Close()
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{
		"bootstrap": strings.Join(cluster.ListenAddrs(), ","),
		"control":   listener.Addr().String(),
	}); err != nil {
		return err
	}
	// The owner is gone when the input ends, however it ended.
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
