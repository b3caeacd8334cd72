import { Body, Controller, Get, HttpCode, Inject, Param, Post } from '@nestjs/common';
import { TidelineError, asNodeId } from '#kernel';
import type { ClusterDescription } from '#command-log';
import { GatewayServices } from '../gateway-services.js';
import { partitionOfTopic } from '../topic-directory.js';
import { RequestParameters, objectOf } from '../request-parameters.js';

const NODE_ID_MAX = 2 ** 31 - 1;

/** Who is in the cluster, who leads what, and handing leadership over. */
@Controller('v1/cluster')
export class ClusterController {
  constructor(@Inject(GatewayServices) private readonly services: GatewayServices) {}

  @Get()
  describe(): Promise<ClusterDescription> {
    return this.services.topics.describe();
  }

  /** Answers when the node asked for leads, or with the error that kept it from that. */
  @Post('partitions/:topic/:partition/leader')
  @HttpCode(200)
  async transfer(
    @Param('topic') topicName: string,
    @Param('partition') partitionText: string,
    @Body() body: unknown,
  ): Promise<{ readonly topic: string; readonly partition: number; readonly leader: number }> {
    const topic = await this.services.topics.topic(topicName);
    if (!/^\d{1,3}$/.test(partitionText)) {
      throw new TidelineError('unknown-partition', `a partition is a number, not ${partitionText.slice(0, 80)}`);
    }
    const partition = Number(partitionText);
    partitionOfTopic(topic, partition);
    const node = new RequestParameters(objectOf(body), ['node']).integer('node', { min: 1, max: NODE_ID_MAX }, null);
    if (node === null) {
      throw new TidelineError('bad-request', 'node is the id of the node that shall lead', {
        details: { member: 'node' },
      });
    }
    await this.services.log.transferLeadership({ topic: topic.name, partition }, asNodeId(node));
    return { topic: topic.name, partition, leader: node };
  }
}
