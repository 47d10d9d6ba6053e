// A client with gorilla/websocket or coder/websocket; see ../serving.py.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
)

type client interface {
	send(text string) error
	read() (string, error)
}

type gorillaClient struct{ connection *gorilla.Conn }

func (one gorillaClient) send(text string) error {
	return one.connection.WriteMessage(gorilla.TextMessage, []byte(text))
}

func (one gorillaClient) read() (string, error) {
	_, text, err := one.connection.ReadMessage()
	return string(text), err
}

type coderClient struct{ connection *coder.Conn }

func (one coderClient) send(text string) error {
	return one.connection.Write(context.Background(), coder.MessageText, []byte(text))
}

func (one coderClient) read() (string, error) {
	_, text, err := one.connection.Read(context.Background())
	return string(text), err
}

func connect(library string, url string) (client, *http.Response, error) {
	switch library {
	case "gorilla":
		dialer := gorilla.Dialer{EnableCompression: true}
		connection, response, err := dialer.Dial(url, nil)
		return gorillaClient{connection}, response, err
	case "coder-takeover":
		options := &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover}
		connection, response, err := coder.Dial(context.Background(), url, options)
		return coderClient{connection}, response, err
	default:
		options := &coder.DialOptions{CompressionMode: coder.CompressionNoContextTakeover}
		connection, response, err := coder.Dial(context.Background(), url, options)
		return coderClient{connection}, response, err
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	library, url, command := os.Args[1], os.Args[2], os.Args[3]
	connections, err := strconv.Atoi(os.Args[4])
	check(err)
	texts, err := strconv.Atoi(os.Args[5])
	check(err)
	var clients []client
	var extensions string
	for range connections {
		one, response, err := connect(library, url)
		check(err)
		check(one.send(command))
		_, err = one.read()
		check(err)
		extensions = response.Header.Get("Sec-WebSocket-Extensions")
		clients = append(clients, one)
	}
	fmt.Println("ready")
	var found [][]string
	for _, one := range clients {
		var mine []string
		for range texts {
			text, err := one.read()
			check(err)
			mine = append(mine, text)
		}
		found = append(found, mine)
	}
	said, err := json.Marshal(map[string]any{"extensions": extensions, "texts": found})
	check(err)
	fmt.Println(string(said))
}
