package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// Shard is one part of a run that is spread over several, written N/OF such as
// 2/3; empty where a run judges all of its templates.
type Shard string

// ShardVariable is the environment variable of the shard.
const ShardVariable = "SANDPROOF_SHARD"

// mostShards is how many jobs one matrix of GitHub Actions can have.
const mostShards = 256

var shardForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([1-9][0-9]{0,2})/([1-9][0-9]{0,2})$`) })

// Parts are the shard's number, from 1, and how many there are.
func (s Shard) Parts() (number, of int, err error) {
	match := shardForm().FindStringSubmatch(string(s))
	if match == nil {
		return 0, 0, fmt.Errorf("shard %q: want N/OF, such as 2/3 for the second of three", string(s))
	}
	// The form leaves three digits at most.
	number, _ = strconv.Atoi(match[1])
	of, _ = strconv.Atoi(match[2])
	if number > of || of > mostShards {
		return 0, 0, fmt.Errorf("shard %q: want a number up to %d, and %d shards at most", string(s), of, mostShards)
	}
	return number, of, nil
}

// Cut returns what of a list falls to one shard, dealt out in turn, so that
// the first of a list, which are the most urgent, are the first of each shard.
func Cut[T any](all []T, number, of int) []T {
	var part []T
	for i := number - 1; i < len(all); i += of {
		part = append(part, all[i])
	}
	return part
}

// cutTemplates leaves the templates of this run's shard, once their order is
// settled; the whole list is kept.
func (c *Config) cutTemplates(p *problems) {
	c.Whole = c.Templates
	if c.Shard == "" {
		return
	}
	number, of, err := c.Shard.Parts()
	if err != nil {
		p.addf("%v", err)
		return
	}
	c.Templates = Cut(c.Whole, number, of)
	if len(c.Templates) == 0 && len(c.Whole) > 0 {
		p.addf("shard %s has no template, there are %d: use %d shards at most", c.Shard, len(c.Whole), len(c.Whole))
	}
}

// Hash names the configuration, whichever shard of it this is and in whichever
// directory it lies: shards of one run have the same.
func (c *Config) Hash() (string, error) {
	whole := c.whole()
	whole.Shard = ""
	data, err := yaml.Marshal(whole)
	if err != nil {
		return "", fmt.Errorf("hash the configuration: %w", err)
	}
	sum := sha256.Sum256([]byte(strings.ReplaceAll(string(data), c.Root+"/", "")))
	return hex.EncodeToString(sum[:]), nil
}

// whole is the configuration with all templates, those of other shards too.
func (c *Config) whole() *Config {
	whole := *c
	whole.Templates = c.Whole
	return &whole
}

// ValidName tells whether a template of that name can be asked for, and stand
// in a list of names.
func ValidName(name string) bool { return templateName().MatchString(name) }
