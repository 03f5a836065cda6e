// Command edges makes TLS connections to itself in unusual ways.
//
// It prints READY and its pid, waits for a line, and prints a line for each connection: what is special about it,
// the client's port (0 if it has no socket), and how many bytes it exchanged. The first one has begun before. The
// client writes 'x' and then these bytes, a pattern that begins with the number of the connection; the server sends
// them back.
package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"time"
)

// wrapped is a connection that counts what comes through another one.
type wrapped struct {
	net.Conn
	count int
}

func (w *wrapped) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.count += n
	return n, err
}

// panicking does not come back from a Read once it is armed.
type panicking struct {
	net.Conn
	armed *bool
}

func (p panicking) Read(b []byte) (int, error) {
	if *p.armed {
		panic("armed")
	}
	return p.Conn.Read(b)
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// echo sends back what comes after the first byte; if that is 'T', TLS begins in it once more.
func echo(raw net.Conn, config *tls.Config) {
	conn := tls.Server(raw, config)
	defer raw.Close()
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return
	}
	if first[0] == 'T' {
		conn = tls.Server(conn, config)
		if _, err := io.ReadFull(conn, first[:]); err != nil {
			return
		}
	}
	io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
}

// receive reads into its stack, which has to grow, and so moves, during the first Read of a new goroutine.
//
//go:noinline
func receive(conn *tls.Conn, missing int, all *[]byte) {
	var buffer [700]byte
	for missing > 0 {
		n, err := conn.Read(buffer[:])
		check(err)
		*all = append(*all, buffer[:n]...)
		missing -= n
	}
}

// expect receives in a goroutine of its own; what it gives waits for the end of that.
func expect(conn *tls.Conn, size, number int) func() {
	var got []byte
	done := make(chan bool)
	go func() {
		receive(conn, size, &got)
		done <- true
	}()
	return func() {
		<-done
		if !bytes.Equal(pattern(size, number), got) {
			panic("something else came back")
		}
	}
}

func pattern(size, number int) []byte {
	made := make([]byte, size)
	for i := range made {
		made[i] = byte(number + i)
	}
	return made
}

func send(conn *tls.Conn, size, number int) {
	conn.Write([]byte("x")) // the handshake is done here
	conn.Write(pattern(size, number))
}

func exchange(conn *tls.Conn, size, number int) {
	go send(conn, size, number)
	expect(conn, size, number)()
}

func main() {
	server := &tls.Config{Certificates: []tls.Certificate{certificate()}}
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			raw, err := listener.Accept()
			check(err)
			go echo(raw, server)
		}
	}()
	dial := func() net.Conn {
		raw, err := net.Dial("tcp", listener.Addr().String())
		check(err)
		return raw
	}
	port := func(raw net.Conn) int { return raw.LocalAddr().(*net.TCPAddr).Port }

	raw := dial()
	conn := tls.Client(raw, client)
	check(conn.Handshake())
	wait := expect(conn, 1000, 1) // a Read that has begun
	time.Sleep(100 * time.Millisecond)
	fmt.Println("READY", os.Getpid())
	bufio.NewReader(os.Stdin).ReadString('\n')
	send(conn, 1000, 1)
	wait()
	fmt.Println("waiting", port(raw), 1000)
	conn.Close()

	raw = dial()
	conn = tls.Client(raw, client)
	exchange(conn, 30000, 2)
	fmt.Println("plain", port(raw), 30000)
	conn.Close()

	raw = dial()
	conn = tls.Client(&wrapped{Conn: raw}, client)
	exchange(conn, 30000, 3)
	fmt.Println("wrapped", port(raw), 30000)
	conn.Close()

	raw = dial()
	outer := tls.Client(raw, client)
	outer.Write([]byte("T"))
	conn = tls.Client(outer, client)
	exchange(conn, 30000, 4)
	fmt.Println("inner", port(raw), 30000)
	conn.Close()

	near, far := net.Pipe()
	go echo(far, server)
	conn = tls.Client(near, client)
	exchange(conn, 5000, 5)
	fmt.Println("pipe", 0, 5000)

	// never closed as TLS, so that only the collector knows that it is over: addresses are used again
	used := map[string]bool{}
	again := 0
	for i := 0; i < 300; i++ {
		raw := dial()
		conn := tls.Client(raw, client)
		exchange(conn, 300+i, 6+i)
		if name := fmt.Sprintf("%p", conn); used[name] {
			again++
		} else {
			used[name] = true
		}
		fmt.Println("unclosed", port(raw), 300+i)
		raw.Close()
		if i%20 == 0 {
			runtime.GC()
		}
	}
	for i := 0; i < 20; i++ {
		raw := dial()
		armed := false
		conn := tls.Client(panicking{raw, &armed}, client)
		done := make(chan bool)
		go func() {
			defer func() {
				recover()
				done <- true
			}()
			conn.Write([]byte("T"))
			armed = true
			var buffer [10]byte
			conn.Read(buffer[:])
		}()
		<-done
		raw.Close()
	}
	fmt.Println("again", 0, again)
}
