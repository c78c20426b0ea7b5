// Step 05 in Go, with its own server: a goroutine per connection, which /proc cannot show.
package main

import (
	"net/http"
	"os"
	"strings"
)

func main() {
	files := http.FileServer(http.Dir(os.Args[4]))
	handler := func(answer http.ResponseWriter, request *http.Request) {
		if strings.Contains(request.URL.Path, "..") {
			http.NotFound(answer, request)
			return
		}
		files.ServeHTTP(answer, request)
	}
	http.ListenAndServe("127.0.0.1:"+os.Args[2], http.HandlerFunc(handler))
}
