/**
 * Stock Nest TCP: one process that answers `{cmd: 'get'}` and `{cmd: 'set'}` at once, with what ours answer, and keeps nothing. What the transport
 * itself costs.
 *
 *   node nest-echo.js PORT
 */
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { MessagePattern, Payload, Transport } from '@nestjs/microservices';

@Controller()
class EchoController {
  private offset = 0;

  @MessagePattern({ cmd: 'set' })
  set(): unknown {
    return { partition: 0, offset: ++this.offset };
  }

  @MessagePattern({ cmd: 'get' })
  get(@Payload() { key }: { key: string }): unknown {
    return { key, value: 'v'.repeat(100), offset: this.offset };
  }
}

@Module({ controllers: [EchoController] })
class EchoModule {}

const microservice = await NestFactory.createMicroservice(EchoModule, {
  transport: Transport.TCP,
  options: { host: '127.0.0.1', port: Number(process.argv[2]) },
  logger: ['error'],
});
await microservice.listen();
