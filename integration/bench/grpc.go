package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

const grpcService = "bench.Stream"

// grpcBytes is a codec of bytes as they are, so that none of the sides encodes anything.
type grpcBytes struct{}

var _ encoding.CodecV2 = grpcBytes{}

func (grpcBytes) Name() string { return "bytes" }

func (grpcBytes) Marshal(v any) (mem.BufferSlice, error) {
	data, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("message of type %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*data)}, nil
}

func (grpcBytes) Unmarshal(data mem.BufferSlice, v any) error {
	target, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("message of type %T", v)
	}
	*target = data.Materialize()
	return nil
}

func grpcStreams() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: grpcService,
		HandlerType: (*any)(nil),
		Streams:     []grpc.StreamDesc{{StreamName: endpointDown, ServerStreams: true, Handler: grpcDown}},
		Methods:     []grpc.MethodDesc{{MethodName: endpointBody, Handler: grpcBody}},
	}
}

// grpcDown sends messages of the size that was asked for.
func grpcDown(_ any, st grpc.ServerStream) error {
	var req []byte
	if err := st.RecvMsg(&req); err != nil {
		return err
	}
	message := bytes.Repeat([]byte("x"), int(binary.BigEndian.Uint32(req)))
	for {
		if err := st.SendMsg(&message); err != nil {
			return err
		}
	}
}

// grpcBody tells how much it was sent.
//
//nolint:revive // grpc-go puts the receiver before the ctx
func grpcBody(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var body []byte
	if err := decode(&body); err != nil {
		return nil, err
	}
	return new(acknowledge(body)), nil
}

// startGRPC serves on a free port.
func startGRPC(ctx context.Context) (target string, stop func() error, err error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := grpc.NewServer(grpc.ForceServerCodecV2(grpcBytes{}), grpc.MaxRecvMsgSize(hugeBody))
	s.RegisterService(grpcStreams(), nil)
	var running sync.WaitGroup
	var served error
	running.Go(func() { served = s.Serve(listener) })
	return listener.Addr().String(), func() error {
		s.Stop()
		running.Wait()
		return served
	}, nil
}

func newGRPCClient(target string) (act func(context.Context, order) (answer, error), call caller, stop func() error, err error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(grpcBytes{}), grpc.MaxCallSendMsgSize(hugeBody)))
	if err != nil {
		return nil, nil, nil, err
	}
	act = func(ctx context.Context, o order) (ans answer, err error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		begin := time.Now()
		st, err := conn.NewStream(ctx, &grpcStreams().Streams[0], "/"+grpcService+"/"+endpointDown)
		if err != nil {
			return ans, err
		}
		req := binary.BigEndian.AppendUint32(nil, uint32(o.Size))
		if err := errors.Join(st.SendMsg(&req), st.CloseSend()); err != nil {
			return ans, err
		}
		for {
			var message []byte
			if err := st.RecvMsg(&message); err != nil {
				return ans, err
			}
			if done, err := ans.Transfer.add(message, o, begin); done || err != nil {
				return ans, err
			}
		}
	}
	body := bytes.Repeat([]byte("x"), hugeBody)
	call = func(ctx context.Context, _ int64) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var got []byte
		if err := conn.Invoke(ctx, "/"+grpcService+"/"+endpointBody, &body, &got); err != nil {
			return err
		}
		return checkAcknowledged(got)
	}
	return act, call, conn.Close, nil
}
