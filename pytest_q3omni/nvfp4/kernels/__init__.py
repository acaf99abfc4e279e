"""Fast NVFP4 kernels: tables (numpy), block kernels (numba) and the threads that run them. PYTEST_DONT_REWRITE"""
