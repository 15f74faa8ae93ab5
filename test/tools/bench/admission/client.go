package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/tcr-assistant/tcr-assistant/webhook"
)

// client asks a server the same again and again. It is as cheap as can be: requests are encoded once, and of an answer no more is
// read than its status and its end. What the standard library's client does would otherwise be most of what is measured.
type client interface {
	ask() error
	close()
}

// path is what API servers ask for.
const path = webhook.MutatePath + "?timeout=3s"

func (l load) client(address string, body []byte) client {
	connect := connect1
	if l.http2 {
		connect = connect2
	}
	if l.cold {
		return &cold{func() (client, error) { return connect(address, body) }}
	}
	return &kept{connect: func() (client, error) { return connect(address, body) }}
}

// kept asks over one connection, made at the first request.
type kept struct {
	connect func() (client, error)
	client
}

func (k *kept) ask() (err error) {
	if k.client == nil {
		if k.client, err = k.connect(); err != nil {
			return err
		}
	}
	return k.client.ask()
}

func (k *kept) close() {
	if k.client != nil {
		k.client.close()
	}
}

// cold asks over a new connection each time.
type cold struct{ connect func() (client, error) }

func (c *cold) ask() error {
	client, err := c.connect()
	if err != nil {
		return err
	}
	defer client.close()
	return client.ask()
}

func (c *cold) close() {}

func dial(address, protocol string) (*tls.Conn, error) {
	return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
}

// http1 is a connection of HTTP/1.1.
type http1 struct {
	connection net.Conn
	answers    *bufio.Reader
	request    []byte
}

func connect1(address string, body []byte) (client, error) {
	connection, err := dial(address, "http/1.1")
	if err != nil {
		return nil, err
	}
	request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, address, len(body))
	return &http1{connection, bufio.NewReader(connection), append(request, body...)}, nil
}

func (c *http1) ask() error {
	if _, err := c.connection.Write(c.request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.answers.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		switch value, isLength := bytes.CutPrefix(line, []byte("Content-Length: ")); {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("it answered %s", line)
		case isLength:
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		case len(line) == 0 && length < 0:
			return errors.New("its answer has no length")
		case len(line) == 0:
			_, err := c.answers.Discard(length)
			return err
		}
	}
}

func (c *http1) close() { _ = c.connection.Close() }

// h2 is a connection of HTTP/2.
type h2 struct {
	connection net.Conn
	out        *bufio.Writer
	framer     *http2.Framer
	header     []byte // compressed, without reference to what was sent before
	body       []byte
	stream     uint32
}

func connect2(address string, body []byte) (client, error) {
	connection, err := dial(address, "h2")
	if err != nil {
		return nil, err
	}
	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", address}, {":path", path},
		{"content-type", "application/json"}, {"content-length", strconv.Itoa(len(body))},
	} {
		// Sensitive fields are never indexed.
		if err := encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: field[0] != ":method" && field[0] != ":scheme"}); err != nil {
			return nil, err
		}
	}
	c := &h2{connection: connection, out: bufio.NewWriterSize(connection, 64<<10), header: header.Bytes(), body: body, stream: 1}
	c.framer = http2.NewFramer(c.out, bufio.NewReader(connection))
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.SetReuseFrames()
	_, err = io.WriteString(c.out, http2.ClientPreface)
	// All answers together fit into a window of a gibibyte.
	return c, errors.Join(err, c.framer.WriteSettings(), c.framer.WriteWindowUpdate(0, 1<<30))
}

func (c *h2) ask() error {
	stream := c.stream
	c.stream += 2
	if err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.header, EndHeaders: true}); err != nil {
		return err
	}
	const most = 16 << 10 // of a frame
	for rest := c.body; len(rest) > 0; rest = rest[min(most, len(rest)):] {
		if err := c.framer.WriteData(stream, len(rest) <= most, rest[:min(most, len(rest))]); err != nil {
			return err
		}
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); status != "200" {
				return fmt.Errorf("it answered %s", status)
			}
			if frame.StreamEnded() {
				return nil
			}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				return nil
			}
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				err = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				err = c.framer.WritePing(true, frame.Data)
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("it answered %s", frame.Header())
		}
		if err == nil {
			err = c.out.Flush()
		}
		if err != nil {
			return err
		}
	}
}

func (c *h2) close() { _ = c.connection.Close() }
