package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// checkKey looks at the key that encrypts a stream or table. Whether others may use it, their policies say, which cannot be seen from here.
func (x *examination) checkKey(ctx context.Context, resource, key, needed string) {
	const check = "encryption"
	if strings.HasSuffix(key, "alias/aws/kinesis") || strings.HasSuffix(key, "alias/aws/dynamodb") {
		x.add(gradeOK, check, resource, "encrypted by AWS's own key "+key, "")
		return
	}
	out, err := x.c.keys.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	if missing := (*kmstypes.NotFoundException)(nil); errors.As(err, &missing) {
		x.add(gradeProblem, check, resource, "its key "+key+" does not exist: nobody can use what it encrypts", "set another key")
		return
	}
	if err != nil {
		x.failed(gradeUnknown, check, resource, "kms:DescribeKey", err)
		return
	}
	if out.KeyMetadata == nil || out.KeyMetadata.KeyState == "" {
		x.silent(check, resource, "the state of its key "+key)
		return
	}
	state, gone := out.KeyMetadata.KeyState, ""
	if at := out.KeyMetadata.DeletionDate; at != nil {
		gone = " and goes on " + at.UTC().Format("2006-01-02")
	}
	switch state {
	case kmstypes.KeyStateEnabled, kmstypes.KeyStateUpdating:
		x.add(gradeOK, check, resource, fmt.Sprintf("encrypted by %s, which is %s: %s", key, state, needed), "")
	default:
		x.add(gradeProblem, check, resource, fmt.Sprintf("its key %s is %s%s: nobody can use it, and what it encrypts cannot be written or read", key, state, gone), "enable the key, or cancel its deletion")
	}
}
