"""The next-token loss of a Qwen2 and its gradient, as fast as the device computes them.

On a GPU: bf16 over fp32 weights, layers compiled one by one so that all share one kernel set per
context, and the whole pass recorded as a CUDA graph, since launching its two thousand kernels
takes longer than running them. Knows nothing of optimizers or schedules.
"""

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import Qwen2ForCausalLM

# Fastest first: cuDNN's attention where the GPU has it.
BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


class Gradient:
    """Called with windows of token ids, int64 (B, T + 1): returns their mean loss in nats, a
    0-dim tensor, and leaves its gradient in the `grad` of every parameter.
    """

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        self.model = model
        self.on_gpu = model.device.type == "cuda"
        self.recorded = None
        if self.on_gpu:
            self._head_loss = torch.compile(self._head_loss, dynamic=False)
            for layer in model.model.layers:
                layer.compile(dynamic=False)

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        if not self.on_gpu:
            self.model.zero_grad()
            return self._pass(windows)
        if self.recorded is None or self.recorded.shape != windows.shape:
            self._record(windows)
        self.recorded.copy_(windows)
        self.graph.replay()
        return self.loss.clone()

    def _record(self, windows: torch.Tensor) -> None:
        """Compile for the shape of these windows, then record the pass that replays will repeat."""
        self.recorded = windows.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.model.zero_grad()
                self._pass(self.recorded)
        torch.cuda.current_stream().wait_stream(stream)
        # Gradients made during the recording live in the graph's memory: a replay rewrites them.
        self.model.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self._pass(self.recorded)

    def _pass(self, windows: torch.Tensor) -> torch.Tensor:
        inputs, targets = windows[:, :-1], windows[:, 1:]
        device = self.model.device.type
        states = self.model.model.embed_tokens(inputs)  # (B, T, hidden)
        # From fp32 states the tables are fp32: a key bias of norm 300 turned by bf16 angles would
        # jump from one position to the next.
        positions = torch.arange(inputs.shape[1], device=states.device)[None]
        rotary = self.model.model.rotary_emb(states, positions)
        with (
            torch.autocast(device, torch.bfloat16, enabled=self.on_gpu),
            sdpa_kernel(BACKENDS, set_priority=True),
        ):
            states = states.bfloat16() if self.on_gpu else states
            for layer in self.model.model.layers:
                states = layer(states, position_embeddings=rotary)
            loss = self._head_loss(states, targets)
        loss.backward()
        return loss.detach()

    def _head_loss(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model.lm_head(self.model.model.norm(states))  # (B, T, vocabulary)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
