"""How vendors word what they refuse: patterns for one message each.

A code or a header says it better where there is one; these are for where there is none.
"""

from __future__ import annotations

import re

OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|ContextWindowExceeded"
    r"|model_max_prompt_tokens_exceeded|tokens_limit_reached"
    r"|max(imum)? context (length|size)|context (length|size|window)[^.]{0,40}exceed"
    r"|exceeds? (the )?(available |model'?s )?(max(imum)? )?context"
    r"|(longer|larger|greater) than the (model'?s |max(imum)? )?(context|model) (le|si)"
    r"|context the overflows|fit into the model|max(imum)? (model|prompt) length"
    r"|reached context length|context length of only"
    r"|prompt is too long|input is too long|input (token )?length is too long"
    r"|too many (input )?tokens:|range of input length should be"
    r"|input token count .{0,60}exceeds|prompt token count of \d+ exceeds"
    r"|exceeded (the )?model token limit|tokens in the prompt cannot exceed"
    r"|inputs` tokens \+|`inputs` must have less than",
    re.IGNORECASE,
)
LIMITS = re.compile(
    r"(?:context (?:length|size|limit|window)|maximum model length|prompt length"
    r"|number of tokens allowed|exceeds the limit)"
    r"\D{0,24}(\d{3,})|> (\d{3,}) maximum",
    re.IGNORECASE,
)
"""What fits, in a vendor's words."""
SENT = re.compile(
    r"(?:requested|contains?|resulted in|too long:|count(?: of)?|length|input)"
    r"(?: about)?[ (]*(\d{3,})",
    re.IGNORECASE,
)
"""What was sent, in a vendor's words."""
WAIT = re.compile(
    r"(?:try again|retry|wait) (?:in|after) (?:about )?"
    r"((?:\d+(?:\.\d+)?(?:ms|[smhd])?)+)"
    r"( seconds?| minutes?)?|\"retryDelay\": ?\"([\d.]+s)\"",
    re.IGNORECASE,
)
UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted"
    r"|not allowed|invalid (field|parameter name)|extra_forbidden|deprecated",
    re.IGNORECASE,
)
NO_CREDIT = re.compile(
    r"insufficient[_ ](quota|credits?|balance|funds)|out of credits?"
    r"|credit balance|quota exhausted|credits? exhausted"
    r"|exceeded your current quota.{0,140}platform\.openai\.com"
    r"|budget_exceeded|budget has been exceeded|ExceededBudget|crossed budget",
    re.IGNORECASE,
)
"""OpenAI's sentence counts by its link: Gemini says the same of a rate limit. Proxies
such as LiteLLM pass on the words and drop the code, and have budgets of their own."""
FILTERED = re.compile(r"content_filter|content_policy|content management policy")
REASONING = re.compile(r"both content and thinking|reasoning_content", re.IGNORECASE)
FORMAT = re.compile(r"response_format|json_schema|json_object|guided|structured out")
ORDER = re.compile(
    r"roles? (must|should) alternate|should alternate with|successive (user|assistant)"
    r"|system (role|messages?) (is |are )?not supported"
    r"|system (role|messages?) must be (at the beginning|(the )?first)"
    r"|only user(,| and)[^.]{0,40} roles are supported|unexpected role '\w+' after role"
    r"|(first message must (be|use)|must (start|begin) with) [^.]{0,20}user"
    r"|alphanumeric strings with length 9",
    re.IGNORECASE,
)
"""The words of chat templates (Mistral, Gemma, Llama 2, Qwen) and of strict vendors."""
NO_MODEL = re.compile(
    r"\bmodel '[^']{1,200}' not found|invalid model name|server is pinned to",
    re.IGNORECASE,
)
"""Of servers that refuse a model with status 400 (llama.cpp with several, LiteLLM,
transformers)."""
PICTURES = re.compile(
    r"(image|vision)[^.]{0,40} (not|only) supported|not a multimodal model|mmproj"
    r"|(not|n't) support (image|vision|multimodal)|unknown[^.]{0,24}image_url"
    r"|no endpoints found that support image",
    re.IGNORECASE,
)
UNPARSED = re.compile(
    r"error parsing tool call|output that does not match the expected \S+ format"
    r"|Failed to parse input at pos"
)
"""Of what a model wrote (Ollama; llama.cpp, also of a schema's answer, and before
2026), with status 500."""
CALLS = re.compile(
    r"(tool_calls\[\d+\]\.(id|function\.name)|tool_call_id"
    r"|tool_?(use|result)(_id|\.(id|name|tool_?use_?id)))\b"
    r".{0,100}(pattern|too long|at most)",
    re.IGNORECASE,
)
"""Of names and ids of calls (OpenAI, Anthropic, Bedrock)."""
