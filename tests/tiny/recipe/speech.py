"""Teacher forcing for the talker: its input, built exactly as the model's own `generate` builds it, and its targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import Qwen3OmniMoeForConditionalGeneration

from recipe.batches import Batch
from recipe.task import CODE_GROUPS, speech_codes

IGNORED = -100
"""Label of a position without a target, as torch's cross entropy takes it."""


@dataclass(frozen=True)
class SpeechBatch:
    """Teacher-forced input of the talker and what it should say.

    `embeds`: float `(batch, length, talker width)`; `mask`: int64 `(batch, length)`;
    `ids`: int64 `(batch, length)`, from which the positions follow;
    `first`: int64 `(batch, steps)`, codes of group 0 with the end code, `IGNORED` after it;
    `codes`: int64 `(batch, steps, CODE_GROUPS)`, zero from the end code on.
    """

    embeds: torch.Tensor
    mask: torch.Tensor
    ids: torch.Tensor
    first: torch.Tensor
    codes: torch.Tensor


def _targets(spoken: list[list[int]], kind: str, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    frames = [torch.from_numpy(speech_codes(tokens, kind)) for tokens in spoken]
    steps = max(len(frame) for frame in frames) + 1
    first = torch.full((len(frames), steps), IGNORED)
    codes = torch.zeros(len(frames), steps, CODE_GROUPS, dtype=torch.long)
    for row, frame in enumerate(frames):
        first[row, : len(frame)] = frame[:, 0]
        first[row, len(frame)] = end
        codes[row, : len(frame)] = frame
    return first, codes


def _user_part(
    model: Qwen3OmniMoeForConditionalGeneration,
    batch: Batch,
    embeddings: torch.Tensor,
    hidden: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The user's turn as the talker sees it: embeddings, ids and mask, left-padded.

    Words go through `text_projection` of their embedding, audio and image tokens through `hidden_projection` of the
    thinker's hidden state. The system message is left out, as `generate` does.
    """
    config = model.config
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    where = torch.arange(ids.shape[1]).expand_as(ids)
    turn = torch.where(ids == config.im_start_token_id, where, -1).cummax(dim=1).values.clamp_min(0)
    user = (ids.gather(1, (turn + 1).clamp_max(ids.shape[1] - 1)) == config.user_token_id) & mask.bool()
    lengths = user.sum(1)
    longest = int(lengths.max())
    order = torch.where(user, ids.shape[1] + where, where).argsort(dim=1)[:, -longest:]
    ids = ids.gather(1, order)
    pick = order.unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
    thinker = config.thinker_config
    media = (ids == thinker.audio_token_id) | (ids == thinker.image_token_id)
    words = model.talker.text_projection(embeddings.gather(1, pick))
    heard = model.talker.hidden_projection(hidden.gather(1, pick))
    embeds = torch.where(media.unsqueeze(-1), heard, words)
    return embeds, ids, (torch.arange(longest) >= (longest - lengths).unsqueeze(1)).long()


def _assistant_part(
    model: Qwen3OmniMoeForConditionalGeneration, batch: Batch, spoken: torch.Tensor, codes: torch.Tensor
) -> torch.Tensor:
    """`<|im_start|>assistant\\n`, the control codes, then one embedding per step of speech.

    Step 0 carries the first text token; step k the embeddings of frame k - 1 plus text token k, `tts_eos` after the
    last one, `tts_pad` from then on.
    """
    config, talker = model.config, model.config.talker_config
    embed, code = model.thinker.get_input_embeddings(), model.talker.get_input_embeddings()
    rows, steps = spoken.shape[0], codes.shape[1]

    def text(ids: torch.Tensor) -> torch.Tensor:
        return model.talker.text_projection(embed(ids).detach())

    def repeated(ids: list[int]) -> torch.Tensor:
        return torch.tensor(ids).expand(rows, -1)

    pad, bos, eos = config.tts_pad_token_id, config.tts_bos_token_id, config.tts_eos_token_id
    head = text(batch.inputs["input_ids"][:, -batch.answer_length - 3 : -batch.answer_length])
    words = torch.cat([repeated([pad] * 4 + [bos]), spoken, repeated([eos]), repeated([pad] * steps)], dim=1)
    words = text(words[:, : 5 + steps])
    control = [talker.codec_nothink_id, talker.codec_think_bos_id, talker.codec_think_eos_id]
    control += [talker.speaker_id["ethan"], talker.codec_pad_id, talker.codec_bos_id]
    groups = [code(codes[:, :-1, 0])]
    groups += [
        table(codes[:, :-1, group]) for group, table in enumerate(model.talker.code_predictor.get_input_embeddings(), 1)
    ]
    heard = torch.cat([code(repeated(control)), torch.stack(groups).sum(0)], dim=1)
    return torch.cat([head, words + heard], dim=1)


def make_speech(
    model: Qwen3OmniMoeForConditionalGeneration,
    batch: Batch,
    spoken: torch.Tensor,
    embeddings: torch.Tensor,
    hidden: torch.Tensor,
) -> SpeechBatch:
    """Build the talker's input exactly as `generate` does, for answers `spoken`: int64 `(batch, tokens)`.

    `embeddings` and `hidden` are the thinker's `hidden_states[0]` and `hidden_states[accept_hidden_layer]`, float
    `(batch, length, thinker width)`. No gradient flows back into the thinker.
    """
    config = model.config
    first, codes = _targets(spoken.tolist(), batch.kind, config.talker_config.codec_eos_token_id)
    user, ids, mask = _user_part(model, batch, embeddings.detach(), hidden.detach())
    assistant = _assistant_part(model, batch, spoken, codes)
    filler = torch.full(assistant.shape[:2], config.tts_pad_token_id)
    return SpeechBatch(
        embeds=torch.cat([user, assistant], dim=1),
        mask=torch.cat([mask, torch.ones_like(filler)], dim=1),
        ids=torch.cat([ids, filler], dim=1),
        first=first,
        codes=codes,
    )


def talker_logits(
    model: Qwen3OmniMoeForConditionalGeneration, batch: Batch, speech: SpeechBatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """Teacher-forced logits: of group 0, float `(batch, steps, talker vocabulary)`, and of the residual groups, float
    `(batch, steps, CODE_GROUPS - 1, CODES)`.
    """
    sound = batch.inputs.get("feature_attention_mask")
    # The talker would compute the same positions itself, but fails where one batch holds both sounds and pictures.
    positions, _ = model.thinker.get_rope_index(
        speech.ids,
        image_grid_thw=batch.inputs.get("image_grid_thw"),
        attention_mask=speech.mask,
        audio_seqlens=None if sound is None else sound.sum(dim=1),
    )
    out = model.talker(
        inputs_embeds=speech.embeds,
        attention_mask=speech.mask,
        position_ids=positions,
        output_hidden_states=True,
        use_cache=False,
    )
    steps = speech.first.shape[1]
    predictor = model.talker.code_predictor
    hidden = out.hidden_states[0][-1][:, -steps:]
    inputs = [hidden, model.talker.get_input_embeddings()(speech.codes[..., 0])]
    inputs += [table(speech.codes[..., group]) for group, table in enumerate(predictor.get_input_embeddings()[:-1], 1)]
    flat = torch.stack(inputs, dim=2).flatten(0, 1)  # (batch * steps, CODE_GROUPS, width)
    states = predictor.model(inputs_embeds=flat, use_cache=False).last_hidden_state
    residual = torch.stack([head(states[:, group + 1]) for group, head in enumerate(predictor.lm_head)], dim=1)
    return out.logits[:, -steps:], residual.unflatten(0, speech.first.shape)
