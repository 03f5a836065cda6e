// Command client does in Go what python_client.py does.
//
//	client [-http2] [-connections N] [-requests N] URL
//
// With -connections there are that many goroutines, each with a connection of its own, that share -requests
// requests; every request is made from a stack that grows first, and that is moved while it runs.
package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func client(http2 bool) *http.Client {
	transport := &http.Transport{ForceAttemptHTTP2: http2, MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}
	if !http2 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: 120 * time.Second}
}

func ask(from *http.Client, method, url string, body []byte) ([]byte, error) {
	request, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := from.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func steps(from *http.Client, url string) {
	body := make([]byte, 3000000)
	for at, state := 0, uint32(1); at < len(body); at++ {
		state = state*1103515245 + 12345
		body[at] = byte(state >> 16)
	}
	question := []byte(`{"model": "test", "stream": true, "messages": [{"role": "user", "content": "hello [long]"}]}`)
	for _, step := range []struct {
		method, path string
		body         []byte
	}{
		{"GET", "/bytes/1000", nil},
		{"POST", "/digest", body},
		{"GET", "/bytes/3000000", nil},
		{"POST", "/v1/chat/completions", question},
	} {
		answer, err := ask(from, step.method, url+step.path, step.body)
		if err != nil {
			fail(err)
		}
		fmt.Printf("%s %d %x\n", step.path, len(answer), sha256.Sum256(answer))
	}
}

// deep calls use from far up a stack that has to grow (and so to move) on the way.
//
//go:noinline
func deep(levels int, use func() bool) bool {
	var frame [512]byte
	frame[levels%len(frame)] = byte(levels)
	if levels == 0 {
		return use()
	}
	right := deep(levels-1, use)
	return right && frame[levels%len(frame)] == byte(levels)
}

func one(from *http.Client, url string, number int) bool {
	text := strings.Repeat(fmt.Sprintf("body of %d ", number), 50)
	answer, err := ask(from, "POST", fmt.Sprintf("%s/echo/m%d", url, number), []byte(text))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	var first struct{ Marker, Body string }
	if err := json.Unmarshal(bytes.SplitN(answer, []byte("\n"), 2)[0], &first); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	return first.Marker == fmt.Sprintf("m%d", number) && first.Body == text
}

func load(http2 bool, connections, requests int, url string) {
	var next, right int64
	var group sync.WaitGroup
	for at := 0; at < connections; at++ {
		group.Add(1)
		go func() {
			defer group.Done()
			from := client(http2)
			defer from.CloseIdleConnections()
			for {
				number := int(atomic.AddInt64(&next, 1)) - 1
				if number >= requests {
					return
				}
				levels := number % 60 // up to 30 KB: a new goroutine's stack has 2 to 8
				done := make(chan bool)
				go func() { // a new one each time: its stack is small again
					done <- deep(levels, func() bool { return one(from, url, number) })
				}()
				if <-done {
					atomic.AddInt64(&right, 1)
				}
				if number%500 == 0 {
					runtime.GC() // shrinks, and so moves, stacks
				}
			}
		}()
	}
	group.Wait()
	fmt.Println("right answers:", right)
}

func main() {
	http2 := flag.Bool("http2", false, "HTTP/2 where the server has it")
	connections := flag.Int("connections", 0, "goroutines, each with a connection")
	requests := flag.Int("requests", 0, "of all of them; one each if not given")
	version := flag.Bool("version", false, "print Go's version")
	flag.Parse()
	if *version {
		fmt.Println(runtime.Version())
		return
	}
	if *requests == 0 {
		*requests = *connections
	}
	if *connections > 0 {
		load(*http2, *connections, *requests, flag.Arg(0))
		return
	}
	from := client(*http2)
	steps(from, flag.Arg(0))
	from.CloseIdleConnections()
}
