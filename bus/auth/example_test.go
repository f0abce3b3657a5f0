package auth_test

import (
	"fmt"

	"github.com/skybus-io/skybus/bus/auth"
)

func Example() {
	op, err := auth.NewOperator(auth.OperatorConfig{Name: "acme"})
	if err != nil {
		fmt.Println(err)
		return
	}
	account, err := op.NewAccount(auth.AccountConfig{Name: "shop", MaxStore: 10 << 30})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The servers are given op.ServerConfig(account), the program that serves orders a file with orders.Creds().
	orders, err := account.NewUser(auth.UserConfig{Role: auth.Service, App: "shop", Env: "prod", Services: []string{"orders"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(orders.Creds()) > 0)

	_, err = account.NewUser(auth.UserConfig{Role: auth.Client, App: "shop", Env: "*"})
	fmt.Println(err)
	// Output:
	// true
	// auth: new user of role "client": env "*": want A-Z a-z 0-9 _ - only
}
