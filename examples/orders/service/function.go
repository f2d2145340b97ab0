package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
)

// RunFunction runs a Lambda function for as long as its process lives. build makes its handler, whose metrics go to the standard output. If it
// cannot be made, Lambda gets to know why, and the process ends.
func RunFunction[H lambda.Handler](role Role, build func(sdk aws.Config, c Config, metrics io.Writer) (H, error)) {
	var handler H
	c, sdk, err := Start(context.Background(), role, os.Getenv, os.Stderr)
	if err == nil {
		handler, err = build(sdk, c, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		if err := reportInitError(os.Getenv("AWS_LAMBDA_RUNTIME_API"), err); err != nil {
			fmt.Fprintf(os.Stderr, "%s: not reported to Lambda: %v\n", role, err)
		}
		os.Exit(1)
	}
	lambda.Start(handler)
}

// reportInitError tells Lambda why the function cannot start; lambda.Start has nothing for it.
//
// See https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-initerror.
func reportInitError(host string, cause error) error {
	if host == "" {
		return nil // it does not run in Lambda
	}
	body, err := json.Marshal(map[string]any{"errorMessage": cause.Error(), "errorType": "InitError", "stackTrace": []string{}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+"/2018-06-01/runtime/init/error", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Lambda-Runtime-Function-Error-Type", "InitError")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	if err == nil && answer.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("it answers %s", answer.Status)
	}
	return err
}
