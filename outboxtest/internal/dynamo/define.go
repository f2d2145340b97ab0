package dynamo

import (
	"slices"
	"strings"

	"github.com/seed-1b628d3f/outbox/outboxtest/internal/wire"
)

// The checks of attribute definitions and key schemas.

func defined(defs []attributeDefinition) []string {
	var names []string
	for _, d := range defs {
		if !slices.Contains(names, *d.AttributeName) {
			names = append(names, *d.AttributeName)
		}
	}
	return names
}

// definedOnce refuses an attribute that is defined twice.
func definedOnce(defs []attributeDefinition) error {
	for i, d := range defs {
		if slices.Contains(defined(defs[:i]), *d.AttributeName) {
			return wire.Validation("Attribute Name is duplicated: " + *d.AttributeName)
		}
	}
	return nil
}

func namesOf(elements []keySchemaElement) []string {
	names := make([]string, len(elements))
	for i, e := range elements {
		names[i] = *e.AttributeName
	}
	return names
}

func undefinedKeys(keys, defs []string) error {
	for _, k := range keys {
		if !slices.Contains(defs, k) {
			return invalid("Some index key attributes are not defined in AttributeDefinitions. Keys: [%s], AttributeDefinitions: [%s]",
				strings.Join(keys, ", "), strings.Join(defs, ", "))
		}
	}
	return nil
}

func validateKeySchema(elements []keySchemaElement, defs []string) error {
	keys := namesOf(elements)
	if len(keys) > len(defs) {
		return wire.Validation("Invalid KeySchema: Some index key attribute have no definition")
	}
	if err := undefinedKeys(keys, defs); err != nil {
		return err
	}
	return validateKeyTypes(elements)
}

func validateKeyTypes(elements []keySchemaElement) error {
	if len(elements) == 2 && *elements[0].AttributeName == *elements[1].AttributeName {
		return wire.Validation("Both the Hash Key and the Range Key element in the KeySchema have the same name")
	}
	if *elements[0].KeyType != "HASH" {
		return wire.Validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
	}
	if len(elements) == 2 && *elements[1].KeyType != "RANGE" {
		return wire.Validation("Invalid KeySchema: The second KeySchemaElement is not a RANGE key type")
	}
	return nil
}

// maxKeyParts is how many attributes of each sort the key of a global index may have.
const maxKeyParts = 4

// validateIndexKeyTypes checks the key of a global index.
func validateIndexKeyTypes(elements []keySchemaElement) error {
	names := namesOf(elements)
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return wire.Validation("Both the Hash Key and the Range Key element in the KeySchema have the same name")
		}
	}
	if *elements[0].KeyType != "HASH" {
		return wire.Validation("Invalid KeySchema: The first KeySchemaElement is not a HASH key type")
	}
	counts := make(map[string]int)
	for _, e := range elements {
		if *e.KeyType == "HASH" && counts["RANGE"] > 0 {
			return wire.Validation("Invalid KeySchema: HASH KeySchemaElements must precede RANGE KeySchemaElements")
		}
		if counts[*e.KeyType]++; counts[*e.KeyType] > maxKeyParts {
			return wire.Validationf("Invalid KeySchema: The number of %s KeySchemaElements exceeds the limit of %d", *e.KeyType, maxKeyParts)
		}
	}
	return nil
}
