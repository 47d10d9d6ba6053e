// Renders a Helm chart without Helm, with Go's text/template and the functions of our chart. A test
// compares the output with Helm's if Helm is installed.
//
// usage: go run main.go CHART RELEASE < values.json
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// files is the .Files of templates.
type files struct{ chart string }

// Get returns the text of a file of the chart.
func (f files) Get(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(f.chart, name))
	return string(text), err
}

func indent(width int, text string) string {
	margin := strings.Repeat(" ", width)
	return margin + strings.ReplaceAll(text, "\n", "\n"+margin)
}

func functions(templates *template.Template) template.FuncMap {
	return template.FuncMap{
		"add": func(numbers ...float64) (sum float64) {
			for _, number := range numbers {
				sum += number
			}
			return
		},
		"fail": func(text string) (string, error) { return "", errors.New(text) },
		"hasKey": func(values map[string]any, name string) bool {
			_, has := values[name]
			return has
		},
		"include": func(name string, data any) (string, error) {
			var text strings.Builder
			err := templates.ExecuteTemplate(&text, name, data)
			return text.String(), err
		},
		"list":    func(values ...any) []any { return values },
		"nindent": func(width int, text string) string { return "\n" + indent(width, text) },
		"quote":   func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		// JSON is YAML too.
		"toYaml": func(value any) (string, error) {
			text, err := json.Marshal(value)
			return string(text), err
		},
	}
}

func render(chart, release string) error {
	var values map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&values); err != nil {
		return err
	}
	templates := template.New("chart").Option("missingkey=error")
	templates.Funcs(functions(templates))
	names, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	if _, err := templates.ParseFiles(names...); err != nil {
		return err
	}
	data := map[string]any{
		"Values":  values,
		"Release": map[string]any{"Name": release},
		"Files":   files{chart},
	}
	for _, name := range names {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		fmt.Println("---")
		if err := templates.ExecuteTemplate(os.Stdout, filepath.Base(name), data); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go run main.go CHART RELEASE < values.json")
		os.Exit(2)
	}
	if err := render(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
