package rows

import (
	"context"
	"io"
	"path"
	"sync"

	"github.com/deepfn/deepfn/actions"
)

// maxFetches is how many objects are fetched at the same time: each is a request that mostly
// waits.
const maxFetches = 8

// readObjects reads an input of which each object is a file. Where a part ends is known from
// the list, so its objects are fetched side by side.
func (s *Source) readObjects(ctx context.Context, p position, number int64, limit Limit) (Part, error) {
	if p.Offset != 0 {
		return Part{}, actions.Errorf(actions.Invalid, "there is no offset %d in an input of objects", p.Offset)
	}
	var part Part
	end := p.Object
	for end < s.objects.len() && end-p.Object < limit.Rows && part.Bytes < limit.Bytes {
		part.Bytes += s.objects.sizes[end]
		end++
	}
	part.Count = int64(end - p.Object)
	if end < s.objects.len() {
		part.Next = position{Object: end}.json()
	}
	if limit.Skip {
		return part, nil
	}
	part.Rows = make([]Row, end-p.Object)
	for i := range part.Rows {
		part.Rows[i] = Row{Number: number + int64(i), Key: quote(s.objects.name(p.Object + i))}
	}
	if err := s.fetchAll(ctx, part.Rows, p.Object); err != nil {
		return Part{}, s.fault(ctx, err)
	}
	return part, nil
}

// fetchAll fetches the objects of the rows, of which the first is the object first. The first
// error ends all of them.
func (s *Source) fetchAll(ctx context.Context, rows []Row, first int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(maxFetches, len(rows)) {
		wg.Go(func() { // ends when next is closed
			for i := range next {
				if err := s.fetch(ctx, &rows[i], first+i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range rows {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// fetch fetches one object. That it has gone or changed, is too large, or has a name that the store does not take,
// is the row's error.
func (s *Source) fetch(ctx context.Context, r *Row, i int) error {
	name, size := s.objects.name(i), s.objects.sizes[i]
	if size > maxFile {
		r.Err = tooLarge(size)
		return nil
	}
	data := make([]byte, size)
	err := s.fetchInto(ctx, data, i)
	switch {
	case actions.CodeOf(err) == actions.NotFound:
		r.Err = actions.Errorf(actions.Invalid, "%s has gone since the batch began", s.objects.showing(i))
	case actions.CodeOf(err) == actions.Invalid:
		r.Err = err
	case err != nil:
		return err
	default:
		r.File = newFile(name, data)
	}
	return nil
}

// fetchInto fills data with an object. The error is Invalid if it is not as long as it was.
func (s *Source) fetchInto(ctx context.Context, data []byte, i int) error {
	if len(data) == 0 {
		return nil
	}
	body, err := s.store.Open(ctx, s.objects.url(i), 0, -1)
	if err != nil {
		return storeError(s.objects.showing(i), err)
	}
	_, err = io.ReadFull(body, data)
	var more [1]byte
	n := 0
	if err == nil {
		n, _ = io.ReadFull(body, more[:]) // an error here is of what is not read
	}
	_ = body.Close() // it was only read
	switch {
	case n > 0 || err != nil && s.isShorter(ctx, int64(len(data)), i):
		return actions.Errorf(actions.Invalid, "%s has changed since the batch began", s.objects.showing(i))
	case err != nil:
		return storeError(s.objects.showing(i), err)
	}
	return nil
}

// isShorter says whether an object that ended too early is shorter than it was; else it broke off.
func (s *Source) isShorter(ctx context.Context, size int64, i int) bool {
	o, err := s.store.Stat(ctx, s.objects.url(i))
	return err == nil && o.Size < size
}

// newFile makes a file of an entry or an object of that name.
func newFile(name string, data []byte) *actions.File {
	return &actions.File{Filename: path.Base(name), ContentType: contentTypeOf(name, data), Data: data}
}

// tooLarge is the error of a file over the limit.
func tooLarge(size int64) error {
	return actions.Errorf(actions.Invalid, "the file has %d bytes; the most is %d", size, maxFile)
}
