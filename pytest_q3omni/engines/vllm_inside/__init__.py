"""What runs inside vLLM's interpreter: it needs vLLM there, and nothing of this package's own dependencies.

`engines/vllm_loader.py` starts this folder by its path and talks with it in two JSON files; `engines/vllm.py` serves
with it, over two pipes. Everything that depends on vLLM's version is here. Written against vLLM 0.32 and 0.26, and the
loading run with the Python code of 0.24 to 0.31, too (headers); whatever another release names differently ends in that
release's own error.
"""
