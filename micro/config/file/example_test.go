package file_test

import (
	"fmt"

	"github.com/skybus-io/skybus/micro/config"
	"github.com/skybus-io/skybus/micro/config/file"
)

func ExampleParse() {
	layer, err := file.Parse([]byte(`
all:
  log.level: info
services:
  shop:
    client: {timeout: {total: 5s}}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	// In a program: config.Open(ctx, conn, config.Config{Layers: []config.Layer{config.Environment(nil), layer}})
	raw, ok := layer.Setting("shop", "1.0.0", config.ClientTimeoutTotal)
	fmt.Printf("%s %v\n", raw, ok)
	// Output:
	// "5s" true
}
