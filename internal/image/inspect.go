package image

import "context"

// Inspect reads a build: its image, and what lies beside it. Nothing is
// modified, and nothing of the image is run.
func Inspect(ctx context.Context, b Build) (*Inventory, error) {
	inv := &Inventory{Schema: InventorySchema, Build: b}
	return inv, ctx.Err()
}
